"""The outside of device-service: the object store."""
