"""Writes status, conditions and Kubernetes Events to the API."""
