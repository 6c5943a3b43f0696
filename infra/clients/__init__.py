"""Turnstile as its users reach it: the gateway's HTTP, ClickHouse and the topics; nothing of the services' code.

Used by the demo and by the tests that look at a stack from outside.
"""
