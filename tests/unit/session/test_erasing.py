"""What an erased session still does, and what it does no more; see also `test_closing.py`."""

from __future__ import annotations

import pytest

from shared.session.commands import Close
from shared.session.inputs import Filed
from tests.builders import answering, archiving, at, bound, confirming, erasing, opening, turn
from tests.unit.session.specification import after

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("asked", "erase"), [(archiving(1), False), (erasing(1), True)])
def test_a_provider_session_that_is_made_too_late_is_closed_and_hears_nothing(
    asked: Filed, erase: bool
) -> None:
    close = Close(provider_session_id="sesn_1", erase=erase)
    opened = after(turn("t1"), turn("t2"), asked).when(bound("sesn_1", 2))
    ended = opened.then("turn.interrupted", commands=(close,))
    assert (ended.state.turn, ended.state.provider_session_id) == (None, None)
    assert ended.events[0].at == at(2)


@pytest.mark.parametrize("answer", [answering("sevt_1", 60), confirming("sevt_1", 60)])
def test_an_answer_that_comes_too_late_is_no_dead_letter(answer: Filed) -> None:
    after(opening(), erasing(50)).when(answer).then()
