"""What was said and how did it stand? Sessions told, folded and compared, from the archive alone."""
