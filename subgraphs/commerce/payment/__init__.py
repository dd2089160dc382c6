"""The faces of payment-service."""
