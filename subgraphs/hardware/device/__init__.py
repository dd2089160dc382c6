"""The faces of device-service."""
