"""Takes inputs in from the log: checked, filed, or made a dead letter."""
