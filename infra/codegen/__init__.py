"""Writes the committed files that follow from others: protobuf code and published schemas."""
