"""What travels on Kafka, described without a Kafka client."""
