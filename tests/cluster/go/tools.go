//go:build tools

// What is built from the same modules besides main.go: the Gateway API conformance suite and its echo server.
package main

import (
	_ "sigs.k8s.io/gateway-api/conformance"
	_ "sigs.k8s.io/gateway-api/conformance/echo-basic"
)
