"""The outside of notification-service: push, mail and text messages."""
