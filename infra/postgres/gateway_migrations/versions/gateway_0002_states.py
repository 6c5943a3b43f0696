"""The core's state of each session, of which its row is made."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0002"
down_revision = "gateway_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows from before have no state: the gateway folds their events anew. One of the build before this may go on
    writing meanwhile: what it writes leaves `folded` behind."""
    op.add_column("gateway_sessions", sa.Column("state", sa.LargeBinary(), nullable=True))
    op.add_column(
        "gateway_sessions",
        sa.Column("folded", sa.BigInteger(), nullable=False, server_default="0"),
    )


def downgrade() -> None:
    op.drop_column("gateway_sessions", "folded")
    op.drop_column("gateway_sessions", "state")
