"""Kills, pauses and restarts of every part under load, and what is judged afterwards: `make chaos`."""
