"""Measurement: sessions, the frames of their readers, and what they amount to."""
