"""ipam: gives every exposed Service its VIPs."""
