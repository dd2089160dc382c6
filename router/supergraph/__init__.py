"""Supergraph SDL (join specification v0.1 to v0.5) as a typed model, and the API schema that clients see."""
