"""Who uses the stack of the end-to-end tests? Two tenants with a key each; neither is a secret."""

ACME, UMBRA = "acme", "umbra"
KEYS = {ACME: "e2e-key-of-acme", UMBRA: "e2e-key-of-umbra"}
