"""The ports on real parts (Kafka, SQL, ClickHouse) and in memory. Imported by main and tests only."""
