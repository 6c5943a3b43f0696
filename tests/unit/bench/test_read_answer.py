"""The reader of long answers counts every mark, however the answer is cut."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.stack import PROJECT

pytestmark = pytest.mark.unit
TEXT = b"id: 1\nx\n\nid: 2\ny\n\nid: 3\nz\n\n"


class InPieces(BaseHTTPRequestHandler):
    """Answers TEXT in chunks of as many bytes as the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        size = int(self.path.strip("/"))
        for place in range(0, len(TEXT), size):
            piece = TEXT[place : place + size]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_marks_across_pieces_are_counted_once(size: int) -> None:
    with HTTPServer(("127.0.0.1", 0), InPieces) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}/{size}"
        order = {"url": url, "method": "GET", "headers": {}, "body": "", "mark": "\nid: "}
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.read_answer"],
            input=json.dumps(order).encode(), capture_output=True, cwd=PROJECT, timeout=60, check=True,
        )  # fmt: skip
        serving.join(10)
    facts = json.loads(done.stdout)
    assert (facts["marks"], facts["bytes"]) == (2, len(TEXT))
