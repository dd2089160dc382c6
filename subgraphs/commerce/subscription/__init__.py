"""The faces of subscription-service."""
