"""Bad days on request: rules that say which request meets which fault, and what the fault does."""
