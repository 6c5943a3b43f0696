"""The gateway's own tables, made by the core's fold from the two topics."""
