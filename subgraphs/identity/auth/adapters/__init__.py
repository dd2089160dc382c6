"""What auth needs from the outside: mail, identity providers."""
