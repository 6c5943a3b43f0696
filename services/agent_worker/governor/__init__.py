"""When may a request go to the provider? Its limits are the organisation's: all workers share one account."""
