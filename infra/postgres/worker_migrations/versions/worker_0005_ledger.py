"""The ledger of what sessions cost."""

import sqlalchemy as sa
from alembic import op

revision = "worker_0005"
down_revision = "worker_0004"
branch_labels = None
depends_on = None

COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_hour_tokens",
    "active_ms",
    "micro_usd",
)
TEXTS = {
    "at": 40,
    "turn_id": 128,
    "user_id": 128,
    "agent": 256,
    "provider_session_id": 256,
    "kind": 32,
    "source": 256,
    "thread_id": 256,
    "model": 256,
    "price": 300,
}


def upgrade() -> None:
    """The ledger: a row for each line of what a session cost."""
    op.create_table(
        "worker_ledger",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in TEXTS.items()),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        sa.Column("estimate", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "session_id", "seq", "line", name="worker_ledger_pkey"
        ),
    )
    op.create_index("worker_ledger_at", "worker_ledger", ["tenant_id", "at"])


def downgrade() -> None:
    op.drop_table("worker_ledger")
