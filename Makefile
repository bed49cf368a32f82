# The commands of the project; the work is done by CMake, Ninja and scripts/. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help build run demo check test e2e cov lint format fuzz bench soak guests clean distclean
SHELL := bash
MAKEFLAGS += --no-print-directory

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## the program, at build/wasmwiz
	@scripts/build release

run: build ## build, then serve on 127.0.0.1:8080 (prints the first API key and a curl line)
	@ENVIRONMENT=$${ENVIRONMENT:-development} exec build/wasmwiz serve

demo: ## everything in two minutes: build, serve, run a guest of each language, print the receipts
	@scripts/demo

check: ## unit tests under AddressSanitizer and UndefinedBehaviorSanitizer, in seconds
	@scripts/test unit

test: ## every test: unit and end to end
	@scripts/test unit e2e

e2e: ## the tests that drive the real program
	@scripts/test e2e

cov: ## which lines the unit tests reach, by folder (scripts/cov --e2e: all tests)
	@scripts/cov

lint: ## the style of code and scripts, and which folder may use which
	@scripts/lint

format: ## bring the C code into its style
	@scripts/lint --fix

fuzz: ## each fuzz driver for a minute (FUZZ_SECONDS=60)
	@scripts/fuzz

bench: build guests ## measure, side by side with nginx
	@scripts/setup bench
	@python3 bench/run.py

soak: build guests ## everything at once for a while, then a look whether anything grew (SOAK_SECONDS=60)
	@scripts/setup test && scripts/setup bench
	@. scripts/common.sh && "$$(venv_dir)/bin/python" bench/soak.py $${SOAK_SECONDS:-60}

guests: ## the example guests and those of the tests, in tests/guests/out/
	@scripts/setup demo
	@scripts/guests

clean: ## remove what was built here (the engine stays in the cache)
	rm -rf build build-dev build-fuzz build-cov tests/guests/out

distclean: clean ## remove the cache too: the engine takes minutes to build again
	@. scripts/common.sh && set -x && rm -rf "$$CACHE"/{engine-????????????????,engine-target-*,venv-*,assemblyscript-*,*.log,*.lock}
