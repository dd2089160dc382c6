"""The base of the identity group's own tables."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from domain.tables import NAMING


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
