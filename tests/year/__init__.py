"""A year of many users in virtual time: workers that are killed, sessions that rest, and money that must agree."""
