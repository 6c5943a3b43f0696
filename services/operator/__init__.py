"""The operator's command line: what a person needs who keeps Turnstile running."""
