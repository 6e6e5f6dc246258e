# Commands, each doing all set-up on a machine that has Python 3.11+, make and the package registry.
#   make demo    a complete run on generated speech (figures in demo/)
#   make test    the whole test suite and the linter
# and for those who work on it:
#   make check   the linter and the tests that are quick
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo
INSTALL := -m pip install --quiet --constraint constraints.txt --editable

.PHONY: demo test check lint architecture study install clean

# It needs neither torch nor what tests and draws: a third of the whole.
demo: $(if $(wildcard $(STAMP)),$(STAMP),$(DEMO_STAMP))
	$(BIN)/serfuse demo --out demo

test: lint
	$(BIN)/python -P -m pytest -n 2 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder \
		--durations=15

# Everything that is quick: for the loop of editing.
check: lint
	$(BIN)/python -P -m pytest -n 2 -q --max-worker-restart 0 --dist loadfile --no-loadscope-reorder -m "not slow"

# docs/architecture.png, from the imports as they are.
architecture: $(STAMP)
	$(BIN)/python docs/draw_architecture.py

# docs/study.ipynb, from docs/api.md, run anew.
study: $(STAMP)
	$(BIN)/python docs/make_study.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

install: $(STAMP)

# Installed anew when the requirements change.
$(STAMP): setup.cfg pyproject.toml constraints.txt $(VENV)/bin/python
	$(BIN)/python $(INSTALL) '.[all,dev]'
	touch $(STAMP) $(DEMO_STAMP)

$(DEMO_STAMP): setup.cfg pyproject.toml constraints.txt $(VENV)/bin/python
	$(BIN)/python $(INSTALL) .
	touch $(DEMO_STAMP)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "serfuse needs Python 3.11 or later, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache demo runs
