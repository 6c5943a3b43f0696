"""The log: a one-node Apache Kafka for one machine, and the topics of any cluster."""
