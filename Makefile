.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help quickstart test test-fast test-slow check clean

PYTHON_HERE := .venv/bin/python

help:  ## list these targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## */|/' | while IFS='|' read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

quickstart:  ## set up, then run the small experiment of configs/quickstart.yaml on this CPU
	@bash scripts/setup.sh quickstart
	.venv/bin/emalign run configs/quickstart.yaml

test:  ## set up, then run every test but the slow ones
	@bash scripts/setup.sh test
	$(PYTHON_HERE) -m pytest -n 2 --dist loadfile -m "not slow"

test-fast:  ## only the tests that load no model
	@bash scripts/setup.sh test
	$(PYTHON_HERE) -m pytest -m "not slow and not stack" $(wildcard tests/unit tests/golden tests/house)

test-slow:  ## only the slow tests (minutes)
	@bash scripts/setup.sh test
	$(PYTHON_HERE) -m pytest -m slow

check:  ## lint, formatting and types
	@bash scripts/setup.sh test
	$(PYTHON_HERE) -m ruff check .
	$(PYTHON_HERE) -m ruff format --check .
	$(PYTHON_HERE) -m pyright

clean:  ## remove caches and the set-up's stamp; results and .venv stay
	rm -f .venv/emalign-setup
	rm -rf .pytest_cache .ruff_cache .hypothesis unsloth_compiled_cache build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
