"""First version of the contracts between the platform's own services."""
