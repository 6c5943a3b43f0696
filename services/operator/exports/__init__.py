"""Exports of the archive as Parquet files, whole or not at all."""
