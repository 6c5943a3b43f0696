"""What was paid for: told, capped, exported, and held against the provider's own report."""
