"""The command line: runs Weir on a machine, shows what the kernel holds, asks the log."""
