"""Erasure of a session or a user: asked for, looked for again, certified."""
