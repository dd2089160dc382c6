"""Checks on single subgraphs and on the merged schema."""
