"""Claims VIPs on the wire."""
