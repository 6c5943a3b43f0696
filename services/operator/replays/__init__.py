"""Sessions told, folded and compared, from the archive alone."""
