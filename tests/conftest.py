"""Fixtures for every test: real parts, started when first asked for."""

import gc

import pytest

# Imports and collected tests are all kept: looking for garbage among them took a quarter of the time.
gc.disable()
pytest_plugins = ("tests.clickhouse_server", "tests.stack")

# Whichever test asks first pays for the start: seconds, but many of them on a busy machine.
_WITH_START_S = {"local_stack": 400, "kafka_bootstrap": 240, "postgres_server": 240}


# As many new objects as set off a collection: plays make thousands, all of which are gone when they end.
YOUNG_OBJECTS = 50_000


def pytest_collection_finish() -> None:
    """Modules and collected tests stay until the end: no collection looks at them again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests on real parts time for the start, unless they say themselves how long they take."""
    for item in items:
        wanted = [_WITH_START_S.get(name, 0) for name in getattr(item, "fixturenames", ())]
        if max(wanted, default=0) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(max(wanted)))
