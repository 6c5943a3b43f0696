"""How does the archive leave the house? As Parquet files, whole or not at all."""
