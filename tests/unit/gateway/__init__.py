"""The gateway in memory: fakes of its ports, the real application above them."""
