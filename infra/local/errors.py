"""What can go wrong with the embedded stack, each as one line that says what to do."""


class LocalStackError(Exception):
    """The embedded stack cannot start; the message is one line for the person at the terminal."""
