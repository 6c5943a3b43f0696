"""Benchmarks of Turnstile against the barest program that does the same on the same machine."""
