"""Dead letters: listed, inspected, redriven, dropped."""
