"""The public gRPC contract with readers, apps and services: one module pair per service."""
