"""URL parameters and headers, sorted by meaning."""

from __future__ import annotations

import base64

import pytest

from infra.clickhouse.server.errors import ClickHouseError
from infra.clickhouse.server.multipart import read_form
from infra.clickhouse.server.request import Asked, read_request

pytestmark = pytest.mark.unit


def read(query: str = "", **headers: str) -> Asked:
    pairs = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    return read_request("POST", query.encode(), pairs)


def test_parameters_go_where_they_belong() -> None:
    asked = read(
        "query=SELECT%20%7Ba%3AString%7D&param_a=x%20y&database=d&default_format=CSV&query_id=q"
        "&session_id=s&session_timeout=5&session_check=1&wait_end_of_query=1&max_threads=2"
        "&buffer_size=1&send_progress_in_http_headers=1&enable_http_compression=0"
    )
    assert asked.query == b"SELECT {a:String}"
    assert asked.params == {"a": "x y"}
    assert asked.settings == {"max_threads": "2"}
    assert (asked.database, asked.format, asked.query_id) == ("d", "CSV", "q")
    assert (asked.session_id, asked.session_timeout, asked.session_check) == ("s", 5.0, True)
    assert asked.wait_end_of_query
    assert not asked.compress


def test_credentials_are_read_from_url_headers_and_basic_authentication() -> None:
    basic = base64.b64encode(b"ann:pa:ss").decode()
    assert (read(authorization=f"Basic {basic}").user, read().user) == ("ann", None)
    assert read(authorization=f"Basic {basic}").password == "pa:ss"
    headed = read(x_clickhouse_user="bob", x_clickhouse_key="k")
    assert (headed.user, headed.password) == ("bob", "k")
    assert read("user=eve&password=x", authorization=f"Basic {basic}").user == "eve"


@pytest.mark.parametrize("value", ["Bearer x", "Basic !!!"])
def test_credentials_that_cannot_be_read_are_refused(value: str) -> None:
    with pytest.raises(ClickHouseError) as refused:
        read(authorization=value)
    assert refused.value.status == 403


def test_what_clients_of_the_native_protocol_say_is_no_setting() -> None:
    asked = read("compress=1&network_compression_method=ZSTD&client_protocol_version=54460")
    assert (asked.frames, asked.frame_method) == (True, "ZSTD")
    assert (asked.revision, asked.settings) == (54460, {})
    assert (read("compress=0").frames, read("client_protocol_version=x").revision) == (False, 0)


def test_a_setting_must_look_like_one() -> None:
    with pytest.raises(ClickHouseError, match="Unknown setting"):
        read("a%3D1%2Cb=2")


def test_a_form_gives_query_and_parameters() -> None:
    asked = read(content_type="multipart/form-data; boundary=xx")
    body = (
        b'--xx\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT {a:String}\r\n'
        b'--xx\r\nContent-Disposition: form-data; name="param_a"\r\n\r\none\r\ntwo\r\n--xx--\r\n'
    )
    assert read_form(asked, body) == []
    assert asked.query == b"SELECT {a:String}"
    assert asked.params == {"a": "one\r\ntwo"}


def test_a_file_in_a_form_is_refused() -> None:
    asked = read(content_type="multipart/form-data; boundary=xx")
    body = b'--xx\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n--xx--\r\n'
    with pytest.raises(ClickHouseError, match=r"external data \(t\)"):
        read_form(asked, body)
