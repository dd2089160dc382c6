"""What keeps the platform running and people informed."""
