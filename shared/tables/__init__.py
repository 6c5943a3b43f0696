"""The SQL tables, each declared once. Which service writes one, its page says; the operator reads them all."""
