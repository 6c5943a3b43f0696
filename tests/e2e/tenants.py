"""The tenants of the end-to-end tests' stack: three, with a key each; none is a secret. `guest` is for
strangers: whatever they send is theirs."""

ACME, UMBRA, GUEST = "acme", "umbra", "guest"
KEYS = {tenant: f"e2e-key-of-{tenant}" for tenant in (ACME, UMBRA, GUEST)}
