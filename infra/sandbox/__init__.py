"""Sandbox emulators of what the outside provides: small servers that speak the providers' protocols.

The platform's real client code talks to them; nothing in `domain` or `subgraphs` knows that they exist.
"""
