"""The faces of notification-service."""
