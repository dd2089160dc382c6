"""The tables that every group's database has besides its own: outbox, inbox, data keys, log of health-data reads.

A group's own tables stand on a base of its own (`domain/<group>/base.py`); its migrations cover both metadatas.
"""

from datetime import datetime

from sqlalchemy import DateTime, Identity, Integer, LargeBinary, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names of constraints and indexes, so that a migration can address each of them."""


class CommonBase(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)


class DataKeyRow(CommonBase):
    """A data-encryption key, wrapped by the master key (`domain.sealing`); the highest id seals."""

    __tablename__ = "data_keys"

    key_id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
