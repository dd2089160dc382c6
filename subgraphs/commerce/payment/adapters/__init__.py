"""The outside of payment-service."""
