"""The router on the network: HTTP in, limits, identity, caches, subgraph connections, HTTP out."""
