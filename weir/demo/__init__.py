"""A small network to try Weir on: clients, a load balancer and backends, each in a namespace of its own."""
