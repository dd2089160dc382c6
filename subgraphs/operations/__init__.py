"""The faces of the operations group."""
