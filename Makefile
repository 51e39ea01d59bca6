# Everything a person types here. `make help` lists it; scripts do the work.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
# Given by the caller, PYTHON is the interpreter that set-up makes the environment with; here it is the environment's.
ifneq ($(filter environment command,$(origin PYTHON)),)
  export SETUP_PYTHON := $(or $(SETUP_PYTHON),$(PYTHON))
endif
override PYTHON := $(VENV)/bin/python
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

.PHONY: dq-demo
dq-demo: setup ## Snowflake tables with known flaws: checked, reported, shown at a loopback URL until Ctrl-C (ONCE=1: the proof)
	@$(PYTHON) -m local.dq_demo

.PHONY: demo-poisoned
demo-poisoned: setup ## The same day with bad data: what stops, what it says, how the next day recovers (20 minutes)
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

.PHONY: crash-test
crash-test: setup ## Kill every job N=300 times at random points (SEED=1), repeat it, compare with days that nobody killed
	@$(PYTHON) -m local.crash_test $(if $(N),--kills $(N)) $(if $(SEED),--seed $(SEED))

.PHONY: backfill-test
backfill-test: setup ## DAYS=30 days of orders read again beside a daily run, compared with one after the other
	@$(PYTHON) -m local.backfill_test $(if $(DAYS),--days $(DAYS))

.PHONY: merge-test
merge-test: setup ## MERGE against MERGE, and against OPTIMIZE, N=50 times each from two drivers
	@MERGES=$(or $(N),50) $(PYTHON) -m pytest tests/delta/test_log_store.py -m proof -k another_writer

.PHONY: quarantine-demo
quarantine-demo: setup ## Refused rows of the demo's day: listed, fixed, replayed, in Gold after the next day (9 minutes)
	@$(PYTHON) -m local.quarantine_demo

.PHONY: runbook-check
runbook-check: setup ## Whether every command of the runbook exists: markers, syntax, AWS models, our parsers, DAGs
	@$(PYTHON) -m local.runbook_check

.PHONY: runbook-test
runbook-test: setup ## Every procedure of the runbook on a lake that really broke (P=restore-silver: one)
	@$(PYTHON) -m local.runbook_run $(if $(P),--only $(P))

##@ Look around

.PHONY: query
query: need-SQL setup ## Ask the local Athena: SQL="SELECT …" or Q=name (Q=list: all 21); FORMAT=csv or json
	@$(PYTHON) -m local.query $(if $(Q),--name "$(Q)","$$QUERY_TEXT") $(if $(FORMAT),--format "$(FORMAT)")

.PHONY: quarantine
quarantine: setup ## Refused rows by table, reason and status; more by scripts/quarantine.py --help
	@$(PYTHON) scripts/quarantine.py list

.PHONY: table
table: need-T setup ## All about one table: make table T=silver.orders
	@$(PYTHON) scripts/table.py "$(T)"

.PHONY: lineage
lineage: setup ## Which table version came from which in the last run, drawn: .local/lineage.svg
	@$(PYTHON) scripts/lineage.py

.PHONY: cost
cost: setup ## What the last runs cost, by job and table
	@$(PYTHON) scripts/cost.py

.PHONY: report
report: setup ## The last run as one HTML page: .local/status.html
	@$(PYTHON) scripts/report.py

.PHONY: dq-dashboard
dq-dashboard: setup ## The page of data quality on the loopback, of the local stack or of S3_DQ_REPORTS_BUCKET (PORT=8080)
	@$(PYTHON) -m local.dq_dashboard $(if $(PORT),--port "$(PORT)")

.PHONY: need-SQL need-T
need-SQL:
	@test -n "$${QUERY_TEXT}$(Q)" || { echo 'usage: make query SQL="SELECT …", or Q=name; make query Q=list lists them' >&2; exit 2; }
need-T:
	@test -n "$(T)" || { echo 'usage: make table T=silver.orders' >&2; exit 2; }

.PHONY: airflow
airflow: setup ## Airflow with its UI on the loopback, in the environment of the demo; Ctrl-C ends it
	@$(PYTHON) -m local.airflow

.PHONY: use
use: setup ## Which lake the commands mean: make use LAKE=poisoned; without LAKE they are listed
	@$(PYTHON) -m local use $(if $(LAKE),"$(LAKE)")

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

##@ An AWS account (ENV=dev or prod; DRY_RUN=1 prints what would be done)

AWS_TARGETS := check-prerequisites first-time-setup init plan deploy destroy build-all rollback deploy-services \
  start-services stop-services restart-services status get-urls logs-report logs-streamlit
.PHONY: $(AWS_TARGETS)
export ENV DRY_RUN SERVICE CONFIRM TFSTATE_BUCKET

check-prerequisites: ## Are the tools new enough, the variables there, the credentials of the right account?
	@scripts/aws.sh $@
first-time-setup: ## Once an account: the bucket of Terraform's state, then init
	@scripts/aws.sh $@
init: ## terraform init, with the state in S3
	@scripts/aws.sh $@
plan: ## terraform plan, into a file
	@scripts/aws.sh $@
deploy: ## terraform plan and apply
	@scripts/aws.sh $@
destroy: ## Remove the environment (CONFIRM=<ENV>)
	@scripts/aws.sh $@
build-all: ## Build and ship a release of the commit (jobs, DAGs, jars, Python packages), build the services' images
	@scripts/aws.sh $@
rollback: ## Make the release before the one that runs
	@scripts/aws.sh $@
deploy-services: ## Push the services' images (SERVICE=name: one)
	@scripts/aws.sh $@
start-services: ## Tasks of every enabled service, as many as Terraform says; waits until they run
	@scripts/aws.sh $@
stop-services: ## No task of any enabled service
	@scripts/aws.sh $@
restart-services: ## New tasks in place of the running ones
	@scripts/aws.sh $@
status: ## What is deployed, which release is active, what runs
	@scripts/aws.sh $@
get-urls: ## Where the services and Airflow are
	@scripts/aws.sh $@
logs-report: ## The report service's log, as it comes
	@scripts/aws.sh $@
logs-streamlit: ## The analytics app's log, as it comes
	@scripts/aws.sh $@

.PHONY: up down test-local test-local-down
up: local-up ## The same as local-up
down: local-down ## The same as local-down
test-local: setup ## All of Terraform's files applied to a local AWS, which stays (terraform-local: and goes)
	@$(PYTHON) -m local.terraform --keep
test-local-down: ## End what test-local left
	@$(PYTHON) -m local.terraform --down

.PHONY: terraform-check terraform-local security-check check-tools
terraform-check: setup ## Terraform's files: fmt, validate, terraform test, checkov; workflows: actionlint
	@$(PYTHON) scripts/terraform_check.py $(CHECK)
terraform-local: setup ## The same files applied to a local AWS, a release run on it, planned again, destroyed
	@$(PYTHON) -m local.terraform
security-check: ## bandit, detect-secrets, pip-audit, the jars by OSV (make check-tools installs the tools)
	@scripts/security_check.sh
check-tools: ## bandit, pip-audit and detect-secrets into .venvs/checks, checkov into .venvs/checkov
	@for name in checks checkov; do \
	  $(if $(wildcard $(PYTHON)),$(PYTHON),python3) -m venv --clear .venvs/$$name && \
	  .venvs/$$name/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/$$name.in || exit 1; \
	done

##@ Change something

.PHONY: test
test: lint ## Everything that must pass (ARGS="-k orders" for a part)
	@$(PYTHON) -m pytest -n 2 --no-loadscope-reorder $(ARGS)

.PHONY: proofs
proofs: setup ## What takes longer to prove than a change should wait: kills, races, whole days again (ARGS="-k killed")
	@$(PYTHON) -m pytest -n 2 --no-loadscope-reorder -m proof $(ARGS)

.PHONY: test-athena
test-athena: setup ## The sample queries on a real Trino (needs a JDK 24 beside), standard clients on the local Athena
	@$(PYTHON) -m local.trino
	@cmp -s requirements/clients.txt .venvs/clients/installed.txt || { \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade --target .venvs/clients \
	    --no-deps --require-hashes -r requirements/clients.txt && \
	  cp requirements/clients.txt .venvs/clients/installed.txt; }
	@PYTHONPATH=.venvs/clients $(PYTHON) -m pytest -q tests/athena_queries/test_clients.py

.PHONY: lint
lint: setup ## ruff (format and rules), mypy --strict on src/, scripts/, local/, dags/, the contracts
	@$(VENV)/bin/ruff format --check --quiet --output-format concise . || { echo "not formatted: make format" >&2; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary
	@$(PYTHON) scripts/check_contracts.py >/dev/null || { $(PYTHON) scripts/check_contracts.py; exit 1; }

.PHONY: check-contracts
check-contracts: setup ## Contracts: valid, and with the versions and migrations that their changes need (LIVE=1: against the lake)
	@$(PYTHON) scripts/check_contracts.py $(if $(LIVE),--live)

.PHONY: release-contracts
release-contracts: setup ## Take the contracts as they are as the released ones, which changes are compared with
	@$(PYTHON) scripts/check_contracts.py --release

.PHONY: docs
docs: setup ## docs/data-dictionary.md from the contracts
	@$(PYTHON) scripts/data_dictionary.py

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
	@if [ -d .local ]; then find .local -mindepth 1 -maxdepth 1 ! -name jars ! -name ivy ! -name trino -exec rm -rf {} +; fi
	@rm -rf data_fixed .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache spark-warehouse

.PHONY: distclean
distclean: clean ## And what was installed: .venv and the jars
	@rm -rf .venv .venvs .local
