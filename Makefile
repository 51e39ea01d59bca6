# Everything a person types here. `make help` lists it; scripts do the work.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
# Raw text: a query or a path may hold a dollar sign, which make would expand.
export QUERY_TEXT = $(value SQL)

##@ Start here

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-zA-Z0-9_-]*:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install everything into the clone (.venv, .local/jars); a second run installs nothing
	@scripts/setup.sh

.PHONY: demo
demo: setup ## The whole day on this machine: sources to Gold by real Airflow, Spark and Kafka (DATA_DIR=path: your files)
	@$(PYTHON) -m local.demo

.PHONY: demo-poisoned
demo-poisoned: setup ## The same day with bad data: what stops, what it says, how the next day recovers
	@$(PYTHON) -m local.demo --poisoned

.PHONY: stream-demo
stream-demo: setup ## The order stream: 2,000 test events, 5% of them broken, and the proof that none is lost
	@$(PYTHON) -m local.stream_demo

.PHONY: bench-stream
bench-stream: setup ## How fast the stream catches up, and with what memory (COUNT=500000)
	@$(PYTHON) -m local.bench_stream $(if $(COUNT),--count $(COUNT))

.PHONY: stream-kill-test
stream-kill-test: setup ## kill -9 the stream N=50 times at random moments (SEED=1), then the same without transactions
	@$(PYTHON) -m local.kill_stream --control $(if $(N),--kills $(N)) $(if $(SEED),--seed $(SEED))

##@ Look around

.PHONY: query
query: need-SQL setup ## Ask the local Athena: make query SQL="SELECT status, count(*) FROM fact_orders GROUP BY 1"
	@$(PYTHON) -m local.query "$$QUERY_TEXT"

.PHONY: table
table: need-T setup ## All about one table: make table T=silver.orders
	@$(PYTHON) scripts/table.py "$(T)"

.PHONY: need-SQL need-T
need-SQL:
	@test -n "$$QUERY_TEXT" || { echo 'usage: make query SQL="SELECT …"' >&2; exit 2; }
need-T:
	@test -n "$(T)" || { echo 'usage: make table T=silver.orders' >&2; exit 2; }

.PHONY: airflow
airflow: setup ## Airflow with its UI on the loopback, in the environment of the demo; Ctrl-C ends it
	@$(PYTHON) -m local.airflow

##@ The local stack

.PHONY: local-up
local-up: setup ## Start AWS, Snowflake, Kafka and the SaaS sources; what runs already is left alone
	@$(PYTHON) -m local up

.PHONY: local-down
local-down: ## Stop them; the lake and its catalog stay
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m local down; fi

.PHONY: local-status
local-status: ## What runs, where, and where its log is
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m local status; else echo "nothing is installed yet: make setup"; fi

##@ Change something

.PHONY: test
test: lint ## Everything that must pass (ARGS="-k orders" for a part)
	@$(PYTHON) -m pytest -n 2 --dist loadfile $(ARGS)

.PHONY: lint
lint: setup ## ruff (format and rules), mypy --strict on src/
	@$(VENV)/bin/ruff format --check --quiet --output-format concise . || { echo "not formatted: make format" >&2; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary

.PHONY: format
format: setup ## Format, and mend what ruff can mend
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

.PHONY: lock
lock: ## After a change of requirements/*.in: resolve and pin anew
	@scripts/lock_requirements.sh

.PHONY: jars
jars: setup ## Fetch the jars of emr_configs/jars.xml (part of setup)
	@$(PYTHON) scripts/fetch_jars.py

.PHONY: jars-lock
jars-lock: setup ## After a change of jars.xml: fetch, and write jars.sha256
	@$(PYTHON) scripts/fetch_jars.py --write-checksums

##@ Clean up

.PHONY: clean
clean: local-down ## Stop the stack and remove its state, the lake and the sample data; what was installed stays
	@if [ -d .local ]; then find .local -mindepth 1 -maxdepth 1 ! -name jars ! -name ivy -exec rm -rf {} +; fi
	@rm -rf data_fixed .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache spark-warehouse

.PHONY: distclean
distclean: clean ## And what was installed: .venv and the jars
	@rm -rf .venv .venvs .local
