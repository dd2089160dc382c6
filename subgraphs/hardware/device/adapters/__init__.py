"""The outside of device-service: the object store, and wake-ups between processes."""
