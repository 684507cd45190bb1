"""ipam: gives every exposed Service and every Gateway its VIPs."""
