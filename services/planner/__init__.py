"""planner: turns everything known into what the kernel should hold."""
