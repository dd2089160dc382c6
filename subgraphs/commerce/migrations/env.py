"""Runs the migrations of the commerce group."""

from subgraphs.runtime.migrations import run_env

run_env()
