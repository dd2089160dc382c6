"""The faces of the domain groups to the world: GraphQL subgraphs, gRPC servicers, Kafka consumers."""
