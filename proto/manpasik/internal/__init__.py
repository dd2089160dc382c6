"""gRPC contracts between the platform's own services, never offered to devices or apps."""
