"""Drives managed sessions: files what is asked, claims sessions that are due, runs their turns."""
