"""Runs the migrations of the operations group."""

from subgraphs.runtime.migrations import run_env

run_env()
