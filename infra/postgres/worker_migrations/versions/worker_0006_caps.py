"""Caps, what was spent under them, and what running turns have reserved."""

import sqlalchemy as sa
from alembic import op

revision = "worker_0006"
down_revision = "worker_0005"
branch_labels = None
depends_on = None

KEY = {"tenant_id": 128, "scope": 16, "who": 128, "period": 16}


def upgrade() -> None:
    """Three tables; nothing that is there changes."""
    op.create_table(
        "worker_caps",
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in KEY.items()),
        sa.Column("limit_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("set_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(*KEY, name="worker_caps_pkey"),
    )
    op.create_table(
        "worker_cap_accounts",
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in KEY.items()),
        sa.Column("spent_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("dearest_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(*KEY, name="worker_cap_accounts_pkey"),
    )
    op.create_table(
        "worker_reservations",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("turn_id", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("left_micro_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "session_id", name="worker_reservations_pkey"),
    )


def downgrade() -> None:
    for table in ("worker_reservations", "worker_cap_accounts", "worker_caps"):
        op.drop_table(table)
