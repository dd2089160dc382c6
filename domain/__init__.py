"""What the business means: tables, rules, commands and events. No GraphQL, gRPC, HTTP or Kafka in here."""
