"""Hellos between LB nodes: who is alive, who may announce VIPs, and taking over what a dead node announced."""
