# Everything a person or CI runs is a recipe here; `make` alone lists them.

# Which PyTorch build is installed: cpu, or a CUDA one such as cu130 (`make demo TORCH=cu130`).
# With TORCH=cpu and PIP_FIND_LINKS set, the wheel is taken from that folder (machines without internet).
TORCH ?= cpu
PYTHON ?= python3

BIN := .venv/bin
WHEELS := $(if $(filter cpu,$(TORCH)),$(PIP_FIND_LINKS))
TORCH_SOURCE := $(if $(WHEELS),--find-links $(WHEELS),--torch-backend $(TORCH))
INSTALLED := .venv/installed-$(TORCH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types bench night notebook lock image lab audit clean

help: ## list the recipes
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(INSTALLED) ## install everything into .venv (done by the others when needed)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode $(TORCH_SOURCE) -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --editable .
	@rm -f .venv/installed-*
	@touch $@

demo: setup ## run the main job on embedded defaults: corpus, data set, training, rendering, evaluation, report
	$(BIN)/dexter run configs/demo.yaml

test: setup lint types ## check style and types, then run the tests (corpora: set DEXTER_DATASETS_ROOT)
	$(BIN)/python -m pytest

lint: setup ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy
	$(BIN)/mypy

night: setup ## two nights of Vienna with everything at work: Prefect server and worker, S3 server, four Ray nodes
	$(BIN)/python benchmarks/nightly.py --nights 2

bench: setup ## parsing and encoding speed on the real corpora, beside partitura's
	$(BIN)/python benchmarks/codec.py --partitura

notebook: setup ## execute docs/notebooks again, with the model that ships (minutes)
	$(BIN)/python docs/notebooks/execute.py

lock: setup ## resolve pyproject.toml again into requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip compile --quiet $(TORCH_SOURCE) --python-version 3.11 --extra dev --no-annotate --no-header pyproject.toml | sed 's/+cpu$$//' > requirements.lock.new
	mv requirements.lock.new requirements.lock

IMAGE ?= cpu
ENGINE ?= docker

image: ## build the container image dexter:cpu (`make image IMAGE=cuda`, and ENGINE=podman)
	$(ENGINE) build --file docker/Dockerfile --target $(IMAGE) --tag dexter:$(IMAGE) $(BUILD_OPTIONS) \
		--build-arg COMMIT=$(shell git rev-parse --short=12 HEAD)$(if $(shell git status --porcelain -uno),.dirty) .

lab: ## start the lab in a box and wait until it is healthy (docker/README.md; first fill in docker/.env)
	docker compose --file docker/compose.yaml up --detach --wait

audit: setup ## ask the advisory database about every package of the lock (needs internet)
	VIRTUAL_ENV=.venv $(BIN)/uv tool run --quiet pip-audit==2.10.1 --strict --no-deps --disable-pip --requirement requirements.lock

clean: ## remove the virtual environment and what the demo wrote
	rm -rf .venv dexter-out
