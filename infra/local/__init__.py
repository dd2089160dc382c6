"""The embedded stack: a real PostgreSQL and a real Kafka-protocol broker from wheels, for one machine."""
