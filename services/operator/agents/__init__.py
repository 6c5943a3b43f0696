"""Agents and environments as code: a folder of files, what the provider has, and which version sessions get."""
