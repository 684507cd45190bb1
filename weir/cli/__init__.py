"""The command line: runs Weir on a machine, shows the kernel's state, and queries the log."""
