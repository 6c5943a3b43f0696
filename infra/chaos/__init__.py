"""Kills, stops and restarts of every part under load and provider faults, and a judgement of what came of it."""
