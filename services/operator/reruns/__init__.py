"""Reruns: recorded turns asked again in shadow sessions, and compared."""
