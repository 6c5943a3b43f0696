"""Sessions on the Messages API: the conversation is kept by us, and asked of a model request by request."""
