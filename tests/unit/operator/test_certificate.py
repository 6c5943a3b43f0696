"""What a certificate of erasure says, and when it says that all is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.operator.erasing.certificate import Erased, ErasedUser, Topic, certificate
from shared.bus.topics import DAY_MS

pytestmark = pytest.mark.unit
ASKED = datetime(2026, 11, 21, 12, tzinfo=UTC)
DONE = ASKED + timedelta(minutes=3)
EVENTS = Topic("turnstile.events.v1", 7 * DAY_MS, 2 * DAY_MS)


def test_copies_last_until_their_segment_may_be_deleted() -> None:
    """A segment may be written to for two days after the record, and is kept for seven after its last."""
    latest = EVENTS.until(DONE)
    assert latest is not None
    assert timedelta(days=9) <= latest - DONE < timedelta(days=9, hours=1)
    assert Topic("kept", -1, DAY_MS).until(DONE) is None


def test_a_certificate_is_complete_only_when_nothing_is_left() -> None:
    gone, there = Erased("acme", "s1"), Erased("acme", "s2", left=["clickhouse: 3 rows in turns"])
    assert certificate([gone], [EVENTS], ASKED, DONE)["complete"] is True
    assert certificate([gone, there], [EVENTS], ASKED, DONE)["complete"] is False
    assert certificate([], [EVENTS], ASKED, DONE)["complete"] is False


def test_it_is_complete_only_when_nothing_is_left_of_the_user() -> None:
    user = ErasedUser("acme", "u1", rows={"gateway_profiles": 1}, vaults=["vlt_1"])
    found = certificate([], [EVENTS], ASKED, DONE, user)
    assert found["complete"] is True
    assert found["user"]["sql"] == {"rows_erased": {"gateway_profiles": 1}}
    assert found["user"]["provider"] == {"vaults_deleted": ["vlt_1"]}
    user.left = ["gateway_profiles: 1 rows"]
    assert certificate([], [EVENTS], ASKED, DONE, user)["complete"] is False
    assert "user" not in certificate([], [EVENTS], ASKED, DONE)


def test_a_certificate_names_what_was_erased_where_and_until_when_copies_last() -> None:
    about = Erased("acme", "s1", user="u1", asked_at="2026-11-21T12:00:00.000000Z")
    about.sql_rows, about.archive_rows = {"worker_inbox": 4}, {"session_events": 40}
    about.provider_sessions, about.dead_letters = ["sesn_1", "sesn_2"], 1
    found = certificate([about], [EVENTS, Topic("t", -1, 1)], ASKED, DONE)
    (session,) = found["sessions"]
    assert session["sql"] == {"rows_erased": {"worker_inbox": 4}}
    assert session["clickhouse"]["rows_deleted"] == {"session_events": 40}
    assert session["provider"] == {"sessions_deleted": ["sesn_1", "sesn_2"]}
    assert session["dead_letters"] == {"made_unreadable": 1}
    assert [topic["copies_last_until"] for topic in found["kafka"]] == [
        "2026-11-30T12:13:00.000000Z",
        "for ever",
    ]
    assert (found["asked_at"], found["looked_again_at"]) == (
        "2026-11-21T12:00:00.000000Z",
        "2026-11-21T12:03:00.000000Z",
    )
