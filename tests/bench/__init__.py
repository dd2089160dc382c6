"""Benchmarks: `make bench`, or `python -m tests.bench --only frames-88`. No test asserts a time."""
