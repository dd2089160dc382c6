"""`manpasik up`: the whole platform on one machine, from an empty folder to live answers, and down again."""

from infra.up.stack import run

__all__ = ["run"]
