"""Plans: who holds which, until when, and what it allows."""
