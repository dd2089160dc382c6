"""Runs the revisions of the group's database."""

from subgraphs.runtime.migrations import run_env

run_env()
