"""What the engine takes from the process's environment: its time zone."""

import os


def set_time_zone(name: str) -> None:
    """Make `name` the zone of an engine that is loaded from now on; one already loaded keeps its own."""
    os.environ["TZ"] = name
