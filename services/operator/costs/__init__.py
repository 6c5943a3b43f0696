"""What was paid for: told, exported, and held against the provider's own report."""
