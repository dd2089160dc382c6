"""Calibration: factory records, field fits, validity and history."""
