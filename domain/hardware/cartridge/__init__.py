"""Cartridges: tags, the registry of types, and the count of uses."""
