"""Audits: archive, log, head rows and provider compared and mended; orphans found."""
