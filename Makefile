# `make fast` while you work, `make check` before you hand in.

PYTHON ?= python

.PHONY: fast test check lint docs

# Less than two minutes on two cores: neither whole runs nor studies, nor what trains for more than a few seconds.
fast:
	$(PYTHON) -m pytest -n 2 -m "not slow" --ignore tests/run --ignore tests/e2e --ignore tests/study

test:
	$(PYTHON) -m pytest -n 2

lint:
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

# The site of docs/, in site/: a page that is not linked, or a link that leads nowhere, is an error.
docs:
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

check: lint docs test
