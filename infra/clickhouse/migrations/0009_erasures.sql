-- One row is one session that was erased: its ids and what became of the erasure, nothing that was
-- said. It is kept for ever, so that no recorder ever brings the session's events in again, also
-- from a log that is read anew from its beginning.
--
-- asked_at: the time of session.erased. noted_at: from then on no row of the session comes in.
-- deleted_at: its rows were deleted from every table and the mutations were over. gone_at: the
-- parts in which they had lain were removed from the disk too. rows: how many were deleted, by table.
CREATE TABLE IF NOT EXISTS erasures
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    asked_at DateTime64(6, 'UTC'),
    noted_at DateTime64(3, 'UTC'),
    deleted_at Nullable(DateTime64(3, 'UTC')),
    gone_at Nullable(DateTime64(3, 'UTC')),
    rows Map(LowCardinality(String), UInt64),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant_id, session_id);
