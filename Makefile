# Everything runs from a virtual environment in .venv, which the first target that needs it makes.
# After that nothing touches the network.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# python3.11 where there is one, else a newer python3
PYTHON ?= $(shell command -v python3.11 || command -v python3)
INSTALLED := .venv/.installed
MINI := --cores all --configfile config/mini.yaml
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# before what is installed: a .venv that several clones share holds the package of one of them
export PYTHONPATH := $(CURDIR)/scripts

.PHONY: help mini mini-all mini-text2mask mini-attn2mask mini-mug19 mini-claims test test-all test-faults test-samples test-slurm lint ship-mini install
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

mini: $(INSTALLED) ## Text2Mask's core tables at mini scale: minutes on two cores
	@scripts/tools/run_mini.py all --prioritize results/mini/voc_table1.csv
	@scripts/tools/check_expected.py tests/expected/mini.csv results/mini

mini-all: $(INSTALLED) ## every table, figure and claim of both papers at mini scale
	@scripts/tools/run_mini.py all --config targets=all
	@scripts/tools/check_expected.py tests/expected/mini.csv results/mini

# its groups, each by itself
mini-text2mask: $(INSTALLED) ## of these, Text2Mask's tables and figures
	@scripts/tools/run_mini.py all_text2mask --config targets=all

mini-attn2mask: $(INSTALLED) ## attn2mask's
	@scripts/tools/run_mini.py all_attn2mask --config targets=all

mini-mug19: $(INSTALLED) ## those of Mug19
	@scripts/tools/run_mini.py all_mug19 --config targets=all

mini-claims: $(INSTALLED) ## the ledger of claims
	@scripts/tools/run_mini.py all_claims --config targets=all

# one thread per worker: more would wait for each other
test: $(INSTALLED) ## the tests that take seconds each
	@OMP_NUM_THREADS=1 python -m pytest -q -n $(or $(JOBS),2) -m "not slow"

test-all: $(INSTALLED) ## all tests
	@OMP_NUM_THREADS=1 python -m pytest -q -n $(or $(JOBS),2)

test-faults: $(INSTALLED) ## kills, full disks, damaged files: KILLS=10 of each program, about an hour
	@OMP_NUM_THREADS=1 ATTNSEG_KILLS=$(or $(KILLS),10) python -m pytest -q -n $(or $(JOBS),2) tests/faults

test-samples: $(INSTALLED) ## the paper scale's rules on samples of real data: DATA=folder
	@python tests/run_samples.py $(if $(DATA),--data "$(DATA)") --folder work/test-samples

test-slurm: $(INSTALLED) ## a few scenes through a SLURM that is started for it (root): SCENES=8
	@python tests/run_slurm.py --folder work/test-slurm --scenes $(or $(SCENES),8)

lint: $(INSTALLED) ## ruff, mypy, snakefmt, snakemake --lint
	@ruff check scripts tests benchmarks
	@ruff format --check scripts tests benchmarks
	@mypy
	@snakefmt --check Snakefile workflow
	@! { snakemake --lint 2>&1 || true; } | grep '^    \* ' | grep -v 'Mixed rules and functions'

FAMILY ?= sd
ship-mini: SHIPPED := mini_$(FAMILY)
ship-mini: $(INSTALLED) ## train the miniature Stable Diffusion, or FAMILY=mmdit (hours), and put it in assets/
	@snakemake work/mini/$(SHIPPED)/model_index.json $(MINI)
	@rm -rf assets/$(SHIPPED).new && cp -r work/mini/$(SHIPPED) assets/$(SHIPPED).new
	@rm -rf assets/$(SHIPPED) && mv assets/$(SHIPPED).new assets/$(SHIPPED)

install: $(INSTALLED) ## only the virtual environment, with the command `attnseg`

# torch first and alone: its version decides which build is taken; --no-deps because the lock is
# complete and mmcv-lite would pull the original mmengine over the maintained fork
$(INSTALLED): envs/requirements.lock
	@"$(PYTHON)" -c 'import sys; sys.exit("error: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	@command -v g++ > /dev/null || { echo "error: g++ is needed to build pydensecrf2; install it (Debian: apt install g++)" >&2; exit 1; }
	@test -x .venv/bin/python || "$(PYTHON)" -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $<)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
