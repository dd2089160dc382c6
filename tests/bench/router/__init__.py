"""The router beside others on one well-known graph: `python -m tests.bench.router`. No test asserts a time."""
