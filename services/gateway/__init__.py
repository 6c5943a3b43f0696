"""HTTP on one side, topics on the other; decides nothing about sessions."""
