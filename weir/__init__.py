"""Weir: an event-sourced load balancer.  This package is the kernel that the services share; it imports none of them."""
