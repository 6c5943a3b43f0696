"""The recorder's own settings: how large a batch is, and how much bad data is too much."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Block, HealthSettings, ProcessSettings


class RecorderSettings(Block):
    """`TURNSTILE_RECORDER_*`. A batch goes out with so many rows or bytes, or so many seconds after the last."""

    recorder_batch_rows: int = Field(default=10_000, ge=1, le=100_000)
    recorder_batch_bytes: int = Field(default=32 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    recorder_batch_seconds: float = Field(default=1.0, gt=0, le=60)
    # One insert may take this long before it counts as failed.
    recorder_insert_seconds: float = Field(default=30.0, gt=0, le=600)
    # So many dead letters one after the other, or such a share of the recent records, stop the process.
    recorder_dead_consecutive: int = Field(default=100, ge=1)
    recorder_dead_ratio: float = Field(default=0.25, gt=0, le=1)


class Settings(ProcessSettings):
    """The blocks the recorder takes."""

    health: HealthSettings
    recorder: RecorderSettings
