"""The plan of Services: frontends, backend sets and status."""
