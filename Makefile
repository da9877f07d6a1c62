# Annals. `make` lists the targets; `make run` and `make test` do all the set-up they need.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install run test test-fast test-pure test-crash test-long test-slow test-schema browser screenshots examples check format release-fixture bench bench-lists demo-reset lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Install into .venv what requirements.txt locks
$(VENV)/.installed: requirements.txt pyproject.toml
	@echo "Installing into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## Start everything with the demo data and serve on ANNALS_PORT (8000)
	@exec $(BIN)/annals run

test: install browser ## Run the tests, in parallel, on real PostgreSQL and in a real browser; DURATIONS=30 lists the slowest
	@$(BIN)/python -m compileall -q domain projections infra api # once, not in each process that a test starts
	@$(BIN)/python -m pytest -n auto --dist worksteal --ignore tests/crash $(if $(DURATIONS),--durations=$(DURATIONS))

test-fast: install ## Format, lint, types, import contracts, and the tests that need no database
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target check test-pure

test-pure: install ## Of these the tests alone
	@$(BIN)/python -m pytest -m "not database" --ignore tests/console --ignore tests/crash --ignore tests/stories $(if $(DURATIONS),--durations=$(DURATIONS))

test-crash: install ## Kill server, worker and PostgreSQL at random under load for SECONDS (240), then check the books
	@ANNALS_TEST_CRASH_SECONDS=$(or $(SECONDS),240) $(BIN)/python -m pytest tests/crash

browser: ## Install Chromium's headless shell, else Chromium, for the tests of the console, where Debian's packages can be had
	@command -v chromium-headless-shell >/dev/null \
		|| { apt-get update -qq && apt-get install -y -qq chromium-headless-shell; } >/dev/null 2>&1 \
		|| command -v chromium chromium-browser google-chrome >/dev/null \
		|| { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 \
		|| echo "No Chromium, and it cannot be installed here: the tests of the console are skipped"

test-long: install ## The laws again, with ANNALS_TEST_EXAMPLES (300) in place of 15; most of an hour
	@ANNALS_TEST_EXAMPLES=$${ANNALS_TEST_EXAMPLES:-300} $(BIN)/python -m pytest -n auto --dist worksteal \
		$$(grep -rl hypothesis tests --include='test_*.py')

test-slow: install ## The tests that have a size, at it: 10,000 erased at once, a review of 1,000,000 events, a day of Wikipedia
	@ANNALS_TEST_SUBJECTS=10000 ANNALS_TEST_EVENTS=1000000 ANNALS_TEST_LINES=39244 $(BIN)/python -m pytest -s -rP \
		tests/infra/erasure/test_process.py tests/projections/queries/test_subject_file.py \
		tests/stories/test_wikipedia.py -k "case_18_all or long_life or wikipedia"

test-schema: install ## Ask all that the OpenAPI document describes, for SECONDS (240) a test at most, at every boundary too
	@ANNALS_TEST_SCHEMA_SECONDS=$(or $(SECONDS),240) ANNALS_TEST_EXAMPLES=$${ANNALS_TEST_EXAMPLES:-300} \
		$(BIN)/python -m pytest tests/api/openapi/test_schema.py

screenshots: install browser ## Take the pictures of the console in docs/ from the demo company
	@$(BIN)/python -m tests.console.screenshots

examples: install ## Record the examples of the OpenAPI document anew
	@$(BIN)/python -m tests.api.story

release-fixture: install ## Store the data folder of release VERSION, that later ones are held against
	@$(BIN)/python -m tests.releases.record tests/releases/$(VERSION)

check: install ## Format, lint, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: install ## Put the code into its format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: install ## Measure; figures go to .data/bench.jsonl too
	@$(BIN)/python -m tests.bench

bench-lists: install ## Measure lists, bars, previews and segments at a million users
	@$(BIN)/python -m tests.bench lists segments

backup: install ## Back up log and keys, apart, below TO (default: backups)
	@$(BIN)/annals backup $(or $(TO),backups)

restore: install ## Restore LOG, KEYS and the newest LEDGER into an empty database
	@$(BIN)/annals restore --log $(LOG) --keys $(KEYS) --ledger $(LEDGER)

erasure-scan: install ## Search all tables and files for values that should be gone, a line each on stdin
	@$(BIN)/annals erasure-scan

demo-reset: install ## Delete the data folder: database, keys and all
	@$(BIN)/annals demo-reset

lock: install ## Lock the newest versions that pyproject.toml allows, with hashes
	@$(BIN)/python -m pip install --quiet 'pip-tools>=7'
	@$(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
		--output-file requirements.txt pyproject.toml

clean: ## Remove what tools leave behind, but not the data
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	@find . -name __pycache__ -prune -exec rm -rf {} +
