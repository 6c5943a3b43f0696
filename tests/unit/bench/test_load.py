"""What the load generator writes and how it finds the end of an answer."""

import pytest

from tests.bench.load import answer_size, request_bytes

pytestmark = pytest.mark.unit

ANSWER = b'HTTP/1.1 202 Accepted\r\nContent-Length: 11\r\nserver: x\r\n\r\n{"ok":true}'


@pytest.mark.parametrize("cut", [0, 10, ANSWER.index(b"\r\n\r\n") + 3])
def test_an_unfinished_head_has_no_size(cut: int) -> None:
    assert answer_size(ANSWER[:cut]) is None


def test_the_size_is_known_as_soon_as_the_head_is_there() -> None:
    assert answer_size(ANSWER[:-5]) == len(ANSWER)
    assert answer_size(ANSWER) == len(ANSWER)


def test_an_answer_without_a_length_ends_with_its_head() -> None:
    head = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert answer_size(head) == len(head)


def test_a_request_is_whole() -> None:
    request = request_bytes("/v1/x", "127.0.0.1:80", {"authorization": "Bearer k"}, b'{"a":1}')
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/x HTTP/1.1",
        b"host: 127.0.0.1:80",
        b"content-length: 7",
        b"authorization: Bearer k",
    ]
    assert body == b'{"a":1}'
