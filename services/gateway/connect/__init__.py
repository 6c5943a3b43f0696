"""Connecting an MCP server by OAuth on a page of the gateway's (docs/decisions/0036)."""
