"""The agent-worker's tables, step by step."""
