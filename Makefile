# Weir.  `make help` lists every target; `make demo` and `make test` need nothing set up beforehand.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## install what Weir needs on a Debian 12 machine (apt packages, .venv); safe to repeat
	@deploy/setup

demo: setup ## the main job on real packets, in network namespaces; KEEP=1 leaves it running
	@$(PY) -m weir.cli demo $(if $(KEEP),--keep)

check: setup ## lint, types, unit and golden tests: under a minute
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@.venv/bin/mypy
	@tests/beside "tests/unit tests/test_layers.py" "tests/planner tests/sim"

test: check ## everything: check, packets through the kernel, end to end, chaos, a real cluster
	@tests/beside "tests/dataplane tests/l7 tests/cluster" "tests/e2e tests/chaos"

bare: ## `make demo` and `make test` in a pristine Debian 12, on this kernel; needs root
	@WEIR_REQUIRE=all tests/bare

stress: setup ## chosen tests again and again with all processors busy: make stress T=tests/chaos/test_flap.py N=20
	@tests/stress $(or $(N),20) $(T)

images: setup ## OCI images of Weir into out/images, and their sizes
	@$(PY) -m tests.cluster.image_build --output out/images

cluster: setup ## a real Kubernetes in network namespaces with Weir deployed in it, until Ctrl-C or `make cluster-down`
	@$(PY) -m tests.cluster

cluster-down: ## end what `make cluster` left
	@$(PY) -m tests.cluster --down

conformance: setup ## the Gateway API's own conformance suite against Weir; one of its tests: T=NAME
	@$(PY) -m tests.conformance $(if $(T),--test $(T))

bench: setup ## the peers side by side, ns/packet, change latency, replay, size; QUICK=1 in short
	@bench/setup
	@$(PY) -m bench $(if $(QUICK),--quick)

docs: setup ## the reference pages in docs/, and the role of the watcher, made from the code
	@$(PY) -m docs.reference

clean: ## remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help setup demo check test bare stress images cluster cluster-down conformance bench docs clean
