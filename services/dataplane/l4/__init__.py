"""Applies the plan to the kernel: map entries, tables, connection tracking."""
