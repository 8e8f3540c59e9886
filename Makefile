# uniwhisper: `make quickstart` trains and judges an encoder from nothing, `make test` checks the repository.
#
# Both make .venv and install what they need; a second call finds that done and starts at once. Settings:
#   make PYTHON=python3.12 ...         another Python (3.11 or newer)
#   make TORCH_CPU_INDEX=URL ...       pip index to take torch from on a machine without an NVIDIA GPU, where the
#                                      default index has only the large CUDA builds
#   make WORKERS=4 test                test processes

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_CPU_INDEX ?=
WORKERS ?= 2
OUT ?= runs/quickstart

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
STAMPS := $(VENV)/.stamps
SHELL := /bin/sh

# The libraries' own chatter: uniwhisper says itself what it downloads and what goes wrong.
export HF_HUB_DISABLE_PROGRESS_BARS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false
export TRANSFORMERS_VERBOSITY := error

.PHONY: help quickstart doctor test check fix sizes clean
.DEFAULT_GOAL := help

help:
	@echo 'make quickstart   train on the starter corpus, judge before and after, write $(OUT)/report.html'
	@echo 'make test         format, lint, types, import contract, tests'
	@echo 'make check        the same without the tests'
	@echo 'make fix          format and repair what ruff can repair'
	@echo 'make doctor       say what works on this machine and what is missing'
	@echo 'make sizes        the ten longest Python files'
	@echo 'make clean        remove .venv and the tools caches (keeps runs/ and downloads)'

quickstart: $(STAMPS)/starter
	@$(BIN)/uniwhisper quickstart --out $(OUT)

doctor: $(STAMPS)/starter
	@$(BIN)/uniwhisper doctor

# Every step runs, whatever the one before it found, so that one look shows all; tests come last.
test: $(STAMPS)/test
	@sh scripts/checks.sh $(BIN) $(WORKERS)

check: $(STAMPS)/test
	@sh scripts/checks.sh $(BIN)

fix: $(STAMPS)/test
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

sizes:
	@find src tests benchmarks -name '*.py' -exec wc -l {} + 2>/dev/null | grep -v ' total$$' | sort -rn | head -10

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist

# --- the environment ------------------------------------------------------------------------------------------------

$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: expected Python 3.11 or newer as '$(PYTHON)', found none. Install it (Debian: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: expected Python 3.11 or newer, found $$($(PYTHON) --version 2>&1) as '$(PYTHON)'. Name a newer one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: expected $(PYTHON) with the venv module, found it without. Install it (Debian: apt install python3-venv), or name another: make PYTHON=/path/to/python3"; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# Without an NVIDIA GPU, torch comes first and by exact version: the index of the machine then decides for a CPU build
# before any other package can ask for the latest torch with several GB of CUDA.
$(STAMPS)/torch: $(STAMPS)/venv
	@if nvidia-smi -L 2>/dev/null | grep -q GPU; then \
	  echo "NVIDIA GPU found: torch is installed with CUDA"; \
	else \
	  echo "no NVIDIA GPU: installing $(TORCH) for the CPU (about 200 MB)"; \
	  $(PIP) install -qq $(if $(TORCH_CPU_INDEX),--index-url $(TORCH_CPU_INDEX)) "$(TORCH)"; \
	fi
	@touch $@

$(STAMPS)/starter: $(STAMPS)/torch pyproject.toml
	@echo "installing uniwhisper with what the starter corpus needs (a minute or two)"
	@$(PIP) install -qq --editable '.[starter]'
	@touch $@

$(STAMPS)/test: $(STAMPS)/torch pyproject.toml
	@echo "installing uniwhisper with the test tools (a minute or two)"
	@$(PIP) install -qq --editable '.[test]'
	@touch $@ $(STAMPS)/starter
