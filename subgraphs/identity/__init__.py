"""The faces of the identity group: accounts, sign-in and profiles."""
