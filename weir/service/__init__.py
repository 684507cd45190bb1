"""What every service process shares: the runner, its options, readiness, metrics and the HTTP servers."""
