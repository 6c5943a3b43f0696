"""The services' ports in memory: for tests without a machine, and for playing a session by a script.

They keep the contracts of each `ports.py` to the letter (`tests/contract` holds them to it beside the real ones)
and nothing else: no durability, one process.
"""
