"""Searches for new examples for as long as it is told: `make fuzz SECONDS=600 SEED=7`."""
