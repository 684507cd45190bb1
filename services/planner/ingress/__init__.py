"""Ingresses, planned as the Gateway API is: what they request is seen as a Gateway, its listeners and its routes."""
