"""The plan of Gateways and routes: listeners, virtual hosts, upstreams and status, independent of the proxy that serves them."""
