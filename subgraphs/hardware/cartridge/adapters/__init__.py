"""The outside of cartridge-service: what plans say of cartridges."""
