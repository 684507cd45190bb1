"""The event log on NATS JetStream: append, read, streams, leases, permissions, snapshots."""
