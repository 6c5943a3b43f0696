"""The recorder: every event of turnstile.events.v1 becomes one row of the archive."""
