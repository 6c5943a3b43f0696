"""The provider's rate limits, which are the organisation's: all workers share one account."""
