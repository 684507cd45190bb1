"""The L7 dataplane: the plan for a proxy, as Envoy's configuration on disk, and what Envoy makes of it."""
