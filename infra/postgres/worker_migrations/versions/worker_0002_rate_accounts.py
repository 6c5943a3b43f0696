"""What all workers together may ask of the provider."""

import sqlalchemy as sa
from alembic import op

revision = "worker_0002"
down_revision = "worker_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "worker_rate_accounts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="worker_rate_accounts_pkey"),
    )


def downgrade() -> None:
    op.drop_table("worker_rate_accounts")
