"""Measurement sessions: from a reader's raw electrode signals to results."""
