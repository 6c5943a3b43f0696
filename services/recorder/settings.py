"""The recorder's own settings: how large a batch is, and how much bad data is too much."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Block, HealthSettings, ProcessSettings


class RecorderSettings(Block):
    """How large a batch of the recorder is, and how much bad data is too much."""

    recorder_batch_rows: int = Field(
        default=25_000,
        ge=1,
        le=100_000,
        description="rows with which a batch goes out; while the one before it is inserted it grows to twice that",
    )
    recorder_batch_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="bytes with which a batch goes out; likewise",
    )
    recorder_batch_seconds: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="seconds after the last batch with which one goes out, however small",
    )
    recorder_insert_seconds: float = Field(
        default=30.0,
        gt=0,
        le=600,
        description="how long one insert may take before it counts as failed",
    )
    recorder_dead_consecutive: int = Field(
        default=100,
        ge=1,
        description="so many dead letters one after the other stop the recorder with exit code 3",
    )
    recorder_dead_ratio: float = Field(
        default=0.25, gt=0, le=1, description="so does such a share of its latest records"
    )


class Settings(ProcessSettings):
    """The blocks the recorder takes."""

    health: HealthSettings
    recorder: RecorderSettings
