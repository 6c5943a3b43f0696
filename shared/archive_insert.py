"""Inserts of events into ClickHouse: always as they are (JSONEachRow), into this table, under these settings.

Whoever inserts them in another way gets other rows: `data` is kept as its own bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

TABLE = "session_events"
SETTINGS: Mapping[str, str | int] = {
    # `data` arrives as an object and is kept as its own bytes.
    "input_format_json_read_objects_as_strings": 1,
    "input_format_skip_unknown_fields": 1,
    "date_time_input_format": "best_effort",
    # Events of many months in one batch (a replayed topic) are no mistake here.
    "max_partitions_per_insert_block": 0,
    # The batch is large already, and the answer must mean that the rows are there.
    "async_insert": 0,
    # MergeTree notes a block as inserted before it commits the part (MergeTreeSink::commitPart): killed in between,
    # it would drop the same block when it is tried again. A repeat changes nothing here, a lost one does: ADR 0016.
    "insert_deduplicate": 0,
}
