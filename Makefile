# Names for what people do most; the work is in scripts/.
.PHONY: help demo test lint bench bench-evolve torture services clean-services

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Migrate 2,000 made-up people between throw-away databases, and look (TARGET=mongodb: into MongoDB)
	@scripts/demo.sh

test: ## Format, lints, all tests, docs, on throw-away databases (what CI runs)
	@scripts/test.sh

lint: ## Format and lints only
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets --features failpoints -- -D warnings

torture: ## Kill the program N times at random moments (N=2000), and try each fail point; SEED=… repeats
	@scripts/torture.sh

bench: ## Benchmarks, on throw-away databases that wait for the disk (TARGET=mongodb: into MongoDB)
	@scripts/bench.sh

bench-evolve: ## The document step of `v1v2 evolve` against a client's loop, on a throw-away MongoDB
	@scripts/bench_evolve.sh

services: ## Start the throw-away databases and keep them
	@scripts/services.sh up
	@scripts/services.sh env

clean-services: ## Stop the throw-away databases and delete them
	@scripts/services.sh clean
