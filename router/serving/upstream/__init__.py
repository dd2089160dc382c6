"""What goes to and from subgraphs in other ways than one request and one answer."""
