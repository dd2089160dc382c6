"""The tables of the operations group stand on this base."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from domain.tables import NAMING


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
