"""Readers: registration, presence, commands and firmware."""
