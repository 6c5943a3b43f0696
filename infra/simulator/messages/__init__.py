"""The Messages API: what a request may say, what it costs, and what the played model answers."""
