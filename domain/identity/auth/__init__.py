"""Accounts, passwords, sign-ins and the tokens that prove them."""
