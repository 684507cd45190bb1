"""Commands for whoever runs Weir on a machine: up, join, check, install, backup, credentials."""
