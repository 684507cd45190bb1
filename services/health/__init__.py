"""health: probes endpoints."""
