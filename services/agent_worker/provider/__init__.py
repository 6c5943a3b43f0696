"""Drivers of the provider. Nothing outside this folder imports `anthropic`."""
