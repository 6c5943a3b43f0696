"""The tenants of the end-to-end tests' stack: two, with a key each; neither is a secret."""

ACME, UMBRA = "acme", "umbra"
KEYS = {ACME: "e2e-key-of-acme", UMBRA: "e2e-key-of-umbra"}
