"""The agent side of the simulator: sessions, threads, scripts and how a turn is performed."""
