"""The faces of measurement."""
