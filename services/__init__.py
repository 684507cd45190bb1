"""The services.  None imports another: they meet in `weir.events`, through the log."""
