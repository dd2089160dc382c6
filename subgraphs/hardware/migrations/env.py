"""Runs the migrations of the hardware group."""

from subgraphs.runtime.migrations import run_env

run_env()
