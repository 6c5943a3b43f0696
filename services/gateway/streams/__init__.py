"""Events on their way to clients: history, log and live as one stream."""
