"""What programs import of Turnstile. Nothing here needs Kafka or a service."""
