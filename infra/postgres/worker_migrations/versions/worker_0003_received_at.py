"""When an input came, by a clock of ours."""

import sqlalchemy as sa
from alembic import op

revision = "worker_0003"
down_revision = "worker_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Inputs filed before have none: their publisher's time counts, as it did."""
    op.add_column(
        "worker_inbox",
        sa.Column("received_at", sa.String(40), nullable=False, server_default=""),
    )


def downgrade() -> None:
    op.drop_column("worker_inbox", "received_at")
