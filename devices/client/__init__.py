"""The asynchronous client library that readers use to speak to the platform."""
