"""The faces of shop-service."""
