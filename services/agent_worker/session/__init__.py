"""Drives one claimed session: the shell, its commands, its watch on the provider, its trace and its tools."""
