"""The faces of auth."""
