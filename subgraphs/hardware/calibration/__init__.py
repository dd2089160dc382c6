"""The faces of calibration-service."""
