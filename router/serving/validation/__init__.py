"""Whether documents are valid: proven for ordinary ones, else asked of graphql-core, within bounds."""
