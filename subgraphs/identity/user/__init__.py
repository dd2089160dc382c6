"""The faces of profiles."""
