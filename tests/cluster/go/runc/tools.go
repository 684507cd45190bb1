//go:build tools

// The program that is built from this module.
package main

import _ "github.com/opencontainers/runc"
