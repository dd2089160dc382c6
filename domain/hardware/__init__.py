"""Readers, the cartridges they take, and how the two are calibrated."""
