"""What a session is known by everywhere."""

from __future__ import annotations

SessionKey = tuple[str, str]
"""Tenant id and session id: session ids are unique within a tenant only."""
