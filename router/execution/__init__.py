"""Plan in, response out. Everything that a plan fixes is compiled into closures once; a request only runs them."""
