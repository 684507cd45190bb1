"""BGP: FRR on this node, which tells routers of the VIPs that this node serves."""
