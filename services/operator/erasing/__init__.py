"""Is a session gone everywhere? Asked for, looked for again, certified."""
