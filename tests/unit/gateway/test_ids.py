"""Ids that nobody can guess."""

from __future__ import annotations

import os
import re

import pytest

from services.gateway.ids import fresh

pytestmark = pytest.mark.unit


def test_no_id_comes_twice() -> None:
    made = [fresh("turn_") for _ in range(5_000)]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch("turn_[0-9a-f]{32}", one) for one in made)


def test_a_process_that_is_forked_makes_ids_of_its_own() -> None:
    fresh("")  # some of what was asked for at once is left
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(theirs, fresh("").encode())
        os._exit(0)
    os.close(theirs)
    os.waitpid(pid, 0)
    assert os.read(ours, 100).decode() not in {fresh("") for _ in range(300)}
    os.close(ours)
