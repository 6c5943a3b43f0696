"""The archive: the schema and its migrations, and a server for machines without ClickHouse."""
