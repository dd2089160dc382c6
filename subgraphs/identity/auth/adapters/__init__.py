"""What auth needs from the outside: identity providers."""
