"""Profiles: what people tell about themselves."""
