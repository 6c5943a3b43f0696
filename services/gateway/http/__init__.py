"""What a client sees: one module per group of routes. Knows ports, no client library."""
