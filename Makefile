# `make fast` while you work, `make check` before you hand in.

PYTHON ?= python

.PHONY: fast test check

fast:  ## Most tests, in less than two minutes on two cores.
	$(PYTHON) -m pytest -n 2 -m "not slow" $(FAST)

test:  ## All tests.
	$(PYTHON) -m pytest

check:  ## Lint, layout, types, all tests.
	ruff check
	ruff format --check
	mypy
	$(PYTHON) -m pytest

FAST = tests/augment tests/recipe
