"""A store's URL says which database it is, or is refused with what to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import Rejected, Transient
from turnstile.stores import open_store

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "field", "says"),
    [
        ("oracle://host/db", "url", "file, postgres, postgresql, sqlite"),
        ("", "url", "begins with one of"),
        ("postgresql://host:port/db", "url", "port"),
        ("postgresql://host", "url", "name of a database"),
        ("sqlite://host/db", "url", "three slashes"),
        ("file:///", "url", "three slashes"),
        ("file:///a?pool=0", "pool", "from 1 to 200"),
        ("file:///a?pool=many", "pool", "from 1 to 200"),
        ("file:///a?timeout=0", "timeout", "from 0.1 to 600"),
        ("file:///a?colour=red", "url", "colour"),
    ],
)
def test_a_url_that_cannot_be_taken_is_refused_with_what_to_change(
    url: str, field: str, says: str
) -> None:
    with pytest.raises(Rejected) as raised:
        open_store(url)
    assert raised.value.field == field
    assert says in str(raised.value)


async def test_a_store_that_is_away_says_so_and_not_the_password() -> None:
    store = open_store("postgresql://ann:s3cret-word@127.0.0.1:1/db?timeout=2")
    with pytest.raises(Transient) as raised:
        await store.start()
    assert raised.value.reason == "store_away"
    assert "PostgreSQL" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    await store.close()


async def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("sqlite:///./here.db"), open_store("file:///./folder"):
        assert (tmp_path / "here.db").exists()
        assert (tmp_path / "folder" / "sessions").is_dir()
