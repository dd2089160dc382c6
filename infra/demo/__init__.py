"""Demo people, and readers that replay real glucose readings through the public interfaces of a running platform."""
