"""A federation router: composes subgraphs, plans operations over them, executes the plans and serves the answers."""
