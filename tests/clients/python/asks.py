"""Asks a ClickHouse server over HTTP with clickhouse-connect and prints the answers.

python asks.py URL FILE

FILE holds a JSON array of statements. Each answer is one line: a JSON array of rows, each an array
of values; instants are RFC 3339 in UTC, decimals strings, what is not a number null.
"""

import json
import math
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect


def main(url: str, file: str) -> None:
    client = clickhouse_connect.get_client(dsn=url)
    for statement in json.loads(Path(file).read_text()):
        answer = client.query(statement)
        kinds = [kind.name for kind in answer.column_types]
        rows = [
            [plain(*pair) for pair in zip(row, kinds, strict=True)] for row in answer.result_rows
        ]
        print(json.dumps(rows))
    client.close()


def plain(value: Any, kind: str) -> Any:
    if isinstance(value, datetime):
        # Without a zone it is of the server's, which is UTC.
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat()
    if isinstance(value, date | Decimal):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item, kind) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main(*sys.argv[1:])
