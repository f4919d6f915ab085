# `make` alone prints what there is.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv run demo test check lint types docs bench soak browser acceptance chaos clean stop

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# One stamp per requirements file, so that `make run` installs only what it needs.
$(VENV)/.%: requirements/%.txt requirements/base.txt requirements/sample.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

venv: $(VENV)/.dev ## Make .venv with all that development needs

test: $(VENV)/.test ## Run the tests
	$(BIN)/python -m pytest -m "not acceptance and not chaos and not browser and not bench"
