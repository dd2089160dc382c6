"""The faces of measurement-service."""
