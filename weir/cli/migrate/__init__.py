"""Commands that convert the configuration of other load balancers."""
