"""Puts the operations group together."""

from domain.operations.base import Base

__all__ = ["Base"]
