"""Commands that run Weir on a machine: up, join, check, install, backup, credentials."""
