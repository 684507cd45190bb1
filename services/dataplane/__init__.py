"""dataplane: makes one node's kernel match the plan."""
