"""Payments and refunds through a payment provider."""
