"""Alembic's entry for this group."""

from subgraphs.runtime.migrations import run_env

run_env()
