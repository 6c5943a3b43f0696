"""The whole stack on one machine, without Docker: each part a process of its own."""
