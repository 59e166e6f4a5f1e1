# Everything a clone needs. `make` alone prints the targets.
# Overridable: PYTHON (the interpreter to build the environment from), VENV (where it goes), JOBS (test workers),
# ARGS (handed on as they are). pip's own variables work too: PIP_EXTRA_INDEX_URL, PIP_CACHE_DIR …

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
EXP ?= image/digits
ARGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
# Stamps: installed once, and again when pyproject.toml changes
RUNTIME := $(VENV)/.gan-kit-runtime
DEV := $(VENV)/.gan-kit-dev

# sample.py's options; only those that are set are passed on
RUN ?=
N ?=
LABEL ?=
SEED ?=
PSI ?=
TOOL ?=
OUT ?=
SOURCE ?=

.PHONY: help setup demo demo-audio train sweep sample explore evaluate prepare test test-quick lint format bench clean

help: ## Print this list
	@printf 'usage: make TARGET [VARIABLE=value …]\n\n'
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(DEV) ## Build the virtual environment with all that development needs

demo: $(RUNTIME) ## Install, then train on the embedded digits: minutes, no download of data
	$(PY) -m gan_kit.train +experiment=image/digits $(ARGS)

demo-audio: $(RUNTIME) ## Install, then train on an embedded drum machine: minutes, no download of data
	$(PY) -m gan_kit.train +experiment=audio/drums_specgan $(ARGS)

train: $(RUNTIME) ## Train an experiment: EXP=image/fashion_mnist_r3gan ARGS='seed=1'
	$(PY) -m gan_kit.train '+experiment=$(EXP)' $(ARGS)

sweep: $(RUNTIME) ## Search an experiment's settings: EXP=image/digits ARGS='budget_samples=50_000 trials=20'
	$(PIP) install -e '.[sweep]'
	$(PY) -m gan_kit.sweep '+experiment=$(EXP)' $(ARGS)

sample: $(RUNTIME) ## Draw from the newest run, or: RUN=runs/… N=64 LABEL=3 SEED=0 PSI=0.7 OUT=folder
	$(PY) -m gan_kit.sample $(if $(RUN),'run=$(RUN)') $(if $(N),'n=$(N)') $(if $(LABEL),'label=$(LABEL)') \
	  $(if $(SEED),'seed=$(SEED)') $(if $(PSI),'psi=$(PSI)') $(if $(OUT),'out=$(OUT)') $(ARGS)

explore: $(RUNTIME) ## Look into the newest run's latent space: TOOL=directions RUN=runs/… ARGS='video=gif'
	$(PY) -m gan_kit.explore $(if $(RUN),'run=$(RUN)') $(if $(TOOL),'tool=$(TOOL)') $(if $(N),'n=$(N)') \
	  $(if $(LABEL),'label=$(LABEL)') $(if $(SEED),'seed=$(SEED)') $(if $(PSI),'psi=$(PSI)') $(if $(OUT),'out=$(OUT)') $(ARGS)

evaluate: $(RUNTIME) ## Score the newest run, or: RUN=runs/… ARGS='metrics=[fd,prdc]'
	$(PY) -m gan_kit.evaluate $(if $(RUN),'run=$(RUN)') $(ARGS)

prepare: $(RUNTIME) ## Clean and pack a folder: SOURCE=photos OUT=data/photos ARGS='image_size=128'
	$(PY) -m gan_kit.prepare 'source=$(SOURCE)' 'out=$(OUT)' $(ARGS)

test: $(DEV) ## Run every test, slow ones too
	$(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-quick: $(DEV) ## Run the quick tests only
	$(PY) -m pytest -n $(JOBS) --dist worksteal -m 'not slow' $(ARGS)

lint: $(DEV) ## Check style, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy gan_kit

format: $(DEV) ## Rewrite the code in the house format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(RUNTIME) ## Run the benchmarks, one comparable row each
	@set -e; for bench in benchmarks/*.py; do echo "# $$bench"; $(PY) "$$bench" $(ARGS); done

clean: ## Remove builds and caches; runs/, data/ and the environment stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find gan_kit tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(PY):
	@command -v '$(PYTHON)' >/dev/null || { \
	  echo "error: no '$(PYTHON)' here; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: gan_kit needs Python 3.11 or newer, '$(PYTHON)' is $$('$(PYTHON)' -V 2>&1); name another: make PYTHON=python3.12" >&2; exit 2; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' cannot build virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 2; }
	'$(PYTHON)' -m venv '$(VENV)'

$(RUNTIME): pyproject.toml | $(PY)
	$(PIP) install -e .
	@touch $@

$(DEV): pyproject.toml | $(PY)
	$(PIP) install -e '.[dev]'
	@touch $(RUNTIME) $@
