# Every verb makes the environment it needs. `make` alone lists them; tests/test_surface.py pins them.

PYTHON ?= python3
JOBS ?= 2
TABLE ?= quick
PY := .venv/bin/python
STAMP := .venv/.installed
# ARGS as the program shall get them: each word as it is, whatever the shell makes of ( ) [ ] * $$. If they hold quotes the
# shell reads them, so that a word can have a space.
quote := '
WORDS = $(if $(or $(findstring $(quote),$(value ARGS)),$(findstring ",$(value ARGS))),$(value ARGS),$(foreach word,$(value ARGS),'$(word)'))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install lock test test-cluster sync lint reproduce-table sweep compare check-claims export report budgets clean

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  ARGS='key=value ...' goes to the verb's program as it is; PYTHON=python3.12 picks the interpreter."

install: $(STAMP) ## make .venv with what requirements.lock pins (other verbs do it when needed)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>&1 | head -n 1); \
	  echo "install: Python >= 3.11 is needed, '$(PYTHON)' is: $$found; name another: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) tools/install.py
	@touch $@

# Resolves requirements.lock again (ARGS=--upgrade takes newer releases).
lock:
	@$(MAKE) --no-print-directory $(STAMP)
	tools/lock.sh $(WORDS)

test: $(STAMP) ## run the quick tests (SLOW=1: the slow ones as well; ARGS=tests/test_x.py)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) --dist worksteal -m "$(if $(SLOW),,not slow and )not gpu and not cluster" $(WORDS)

test-cluster: $(STAMP) ## sweeps on a real SLURM and a real Ray on this machine, with a job killed (docs/clusters.md)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -m cluster tests/experiments/launching/test_cluster.py $(WORDS)

lint: $(STAMP) ## ruff and mypy (FIX=1: repair and format what can be)
	$(if $(FIX),$(PY) -m ruff check --fix .,$(PY) -m ruff check .)
	$(if $(FIX),$(PY) -m ruff format .,$(PY) -m ruff format --check .)
	$(PY) -m mypy

reproduce-table: $(STAMP) ## run what is missing of a table and print it (TABLE=quick, smoke, ...; DRY=1: its cost)
	$(PY) -m experiments reproduce $(if $(DRY),--dry-run) table=$(TABLE) $(WORDS)

sweep: $(STAMP) ## turn one dial on a fixed budget (SWEEP=name; DRY=1: its cost)
	$(PY) -m experiments sweep $(if $(DRY),--dry-run) $(if $(SWEEP),sweep=$(SWEEP)) $(WORDS)

compare: $(STAMP) ## two models, paired, on one budget (A=model B=model BUDGET=name TASKS=task,task; DRY=1)
	$(PY) -m experiments compare $(if $(DRY),--dry-run) $(if $(A),a=$(A)) $(if $(B),b=$(B)) $(if $(BUDGET),budget=$(BUDGET)) $(if $(TASKS),tasks=$(TASKS)) $(WORDS)

check-claims: $(STAMP) ## the registered claims and the records' verdicts on them
	$(PY) -m experiments check-claims $(WORDS)

export: $(STAMP) ## write the table and the raw records as CSV to results/exports (TABLE=quick)
	$(PY) -m experiments export table=$(TABLE) $(WORDS)

report: $(STAMP) ## build the readable report of a table, or of all and an index over them (TABLE=quick)
	$(PY) -m experiments report $(if $(filter-out file,$(origin TABLE)),table=$(TABLE)) $(WORDS)

budgets: $(STAMP)
	$(PY) -m experiments budget lock --to=tests/data/solved_sizes.csv $(WORDS)

sync: $(STAMP) ## print the commands that upload the offline W&B runs, the report's included
	@$(PY) -m experiments sync $(WORDS)

clean: ## remove caches; CONFIRM=1 removes all of results/ but reference, too
	find . \( -name .venv -o -name .git \) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info outputs multirun
ifeq ($(CONFIRM),1)
	find results -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} + 2>/dev/null || true
else
	@echo "results/ kept: 'make clean CONFIRM=1' removes all of it but results/reference; .venv is kept in any case"
endif
