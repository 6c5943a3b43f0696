"""The head rows' database: a PostgreSQL of this machine's own, as a plain process."""
