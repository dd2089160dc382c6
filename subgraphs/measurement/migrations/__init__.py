"""Revisions of the group's database."""
