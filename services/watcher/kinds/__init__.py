"""One module per kind that is read, and the registry of them."""
