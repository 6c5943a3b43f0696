"""Users: the file, and who is let in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from infra.clickhouse.server.errors import ClickHouseError
from infra.clickhouse.server.serve import CannotStart, _check_passwords
from infra.clickhouse.server.users import BUNDLED, UsersFileError, load_users

pytestmark = pytest.mark.unit

HASH = hashlib.sha256(b"secret").hexdigest()


def load(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "users.toml"
    path.write_text(text)
    return path


def test_the_bundled_file_has_a_writer_and_an_analyst() -> None:
    users = load_users(BUNDLED)
    assert users.authenticate(None, None).readonly == 0
    analyst = users.authenticate("analyst", "")
    assert (analyst.readonly, analyst.settings["max_result_rows"]) == (1, "1000000")


@pytest.mark.parametrize("line", [f'password_sha256 = "{HASH}"', 'password = "secret"'])
def test_a_wrong_password_and_an_unknown_name_look_the_same(tmp_path: Path, line: str) -> None:
    users = load_users(load(tmp_path, f"[users.ann]\n{line}\n"))
    assert users.authenticate("ann", "secret").name == "ann"
    for name, password in (("ann", "wrong"), ("ann", None), ("eve", "secret")):
        with pytest.raises(ClickHouseError) as refused:
            users.authenticate(name, password)
        assert (refused.value.code, refused.value.status) == (516, 403)
        assert "secret" not in refused.value.text
    with pytest.raises(ClickHouseError) as refused:
        users.authenticate(None, None)
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[users.ann]\nreadonly = 3", "users.ann.readonly: must be 0, 1 or 2"),
        ("[users.ann]\npasword = 'x'", "users.ann.pasword: unknown"),
        ("[users.ann]\npassword_sha256 = 'x'", "64 hex digits"),
        ("nothing = 1", "not a users file"),
        ("[[", "not a users file"),
    ],
)
def test_a_bad_file_names_field_and_fix(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsersFileError, match=said):
        load_users(load(tmp_path, text))


def test_a_missing_users_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsersFileError, match="readable file"):
        load_users(tmp_path / "none.toml")


def test_no_open_user_on_an_open_address(tmp_path: Path) -> None:
    _check_passwords("127.0.0.1", load_users(BUNDLED))
    _check_passwords("0.0.0.0", load_users(load(tmp_path, '[users.a]\npassword = "x"')))
    with pytest.raises(CannotStart, match="default, analyst"):
        _check_passwords("0.0.0.0", load_users(BUNDLED))
