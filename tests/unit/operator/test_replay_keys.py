"""Pausing a replay, on a real terminal (a pseudo one)."""

import os
import threading
import time
import tty
from collections.abc import Iterator

import pytest

from services.operator.replays.keys import Keys, Left

pytestmark = pytest.mark.unit


@pytest.fixture
def terminal() -> Iterator[tuple[int, Keys]]:
    """The side a person types on, and the keys at the other end."""
    typing, reading = os.openpty()
    tty.setcbreak(reading)
    yield typing, Keys(reading)
    os.close(typing)
    os.close(reading)


@pytest.mark.parametrize("key", [b" ", b"\n"])
def test_a_pause_lasts_until_the_next_key(terminal: tuple[int, Keys], key: bytes) -> None:
    typing, keys = terminal
    os.write(typing, key)
    waiting = threading.Thread(target=keys.wait, args=(0.0,))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    assert keys.paused
    os.write(typing, key)
    waiting.join(20)
    assert not waiting.is_alive()
    assert not keys.paused


def test_a_step_goes_to_the_next_event_and_stays_there(terminal: tuple[int, Keys]) -> None:
    typing, keys = terminal
    os.write(typing, b"nn")
    keys.wait(3600)
    keys.wait(3600)
    assert keys.paused


@pytest.mark.parametrize("key", [b"q", b"\x04"])
def test_a_key_that_leaves_ends_the_wait(terminal: tuple[int, Keys], key: bytes) -> None:
    typing, keys = terminal
    os.write(typing, key)
    with pytest.raises(Left):
        keys.wait(3600)


def test_other_keys_cut_no_wait_short(terminal: tuple[int, Keys]) -> None:
    typing, keys = terminal
    os.write(typing, b"xyz")
    began = time.monotonic()
    keys.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_without_a_terminal_only_time_passes() -> None:
    Keys(None).wait(0.0)
