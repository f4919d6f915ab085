# `make` alone prints what there is. Every target makes the environment it needs.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

PACKAGES := orchestrator orchestrator_ui sample_project
SOURCES  := $(PACKAGES) $(wildcard tests benchmarks) manage.py
SLOW     := acceptance or chaos or browser or bench

# Every test runner takes more options from here: make test ARGS="-k claim -x"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv run demo test check lint types docs bench soak browser \
        acceptance chaos package clean stop

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.sample ## Run the sample: web, worker, scheduler, its main job
	@$(BIN)/python -m sample_project.launch

demo: $(VENV)/.sample ## Do the sample's main job once, without the web server
	@$(BIN)/python -m sample_project.launch --once

test: $(VENV)/.test ## Run the tests, less the slow ones
	$(BIN)/python -m pytest -m "not ($(SLOW))" $(ARGS)

check: lint types test acceptance chaos browser package docs ## All that CI checks

lint: $(VENV)/.dev ## Style, layers and missing migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

types: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy $(SOURCES)

acceptance: $(VENV)/.test ## Real workers and schedulers, killed and frozen
	$(BIN)/python -m pytest -m acceptance $(ARGS)

soak: $(VENV)/.test ## Random kills under load, for MINUTES (3); ARGS="--seed 7"
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),3) $(ARGS)

chaos: $(VENV)/.test ## The same for one minute, then a crash at each failpoint
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),1) $(ARGS)
	$(BIN)/python -m pytest -m chaos

browser: $(VENV)/.dev ## Journeys in a real browser (Debian's chromium, or CHROMIUM)
	$(BIN)/python -m pytest -m browser $(ARGS)

# In an environment of its own: what the peers bring must not hide a missing import.
bench: ## Measure ours beside its peers, in one run (ARGS="--profile smoke")
	@$(MAKE) --no-print-directory VENV=.venv-bench .venv-bench/.bench
	.venv-bench/bin/python -m benchmarks $(ARGS)

docs: $(VENV)/.docs ## Build the documentation into docs/_build
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

package: $(VENV)/.dev ## Build the wheel and check what is in it
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python .ci/wheel.py dist

venv: $(VENV)/.dev ## Make .venv with all that development needs

stop: ## Stop an embedded database that outlived its users
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m sample_project.embedded stop; fi

clean: ## Remove databases, environments and everything else that was built
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m sample_project.embedded remove; fi
	rm -rf .venv .venv-* .sample .postgres* build dist *.egg-info docs/_build
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# One stamp per requirements file, so that `make run` installs only what it needs.
$(VENV)/.%: requirements/%.txt requirements/base.txt requirements/sample.txt | $(BIN)/pip
	@echo "Installing $< into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.dev: requirements/test.txt requirements/docs.txt

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "No virtual environment could be made. On Debian: apt-get install python3-venv"; exit 1; }
