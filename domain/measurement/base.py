"""The base on which the tables of this group stand."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from domain.tables import NAMING


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
