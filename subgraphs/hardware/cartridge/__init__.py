"""The faces of cartridge-service."""
