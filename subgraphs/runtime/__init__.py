"""What every group needs to be served: settings, database, hosts, auth, outbox, consumers, telemetry."""
