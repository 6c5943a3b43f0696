"""What would another agent have said? Recorded turns asked again in shadow sessions, and compared."""
