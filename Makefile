PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help train test oldest test-slow faults faults-mutations check format bench zoo reproduce gif docs clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)

train: $(READY) ## Train a policy on HalfCheetah, in three to seven minutes; ARGS="env=hopper seed=3" changes what
	$(BIN)/torch-es train $(ARGS)

test: $(READY) ## Run the tests
	$(BIN)/python -m pytest --numprocesses logical --dist loadfile --durations=25

oldest: ## Run the tests with the oldest versions allowed; ARGS="tests/envs" says which
	PYTHON=$(PYTHON) tests/oldest.sh $(ARGS)

test-slow: $(READY) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow

faults: $(READY) ## Inject every fault and count what survives
	$(BIN)/python benchmarks/faults.py $(ARGS)

faults-mutations: $(READY) ## Remove each protection in turn and check that a test fails
	$(BIN)/python tests/faults/mutations.py $(ARGS)

check: $(READY) ## Check format, lint, types and the order of the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Measure speed beside the physics alone and other libraries
	$(BIN)/python -m pip install --quiet -r requirements-bench.lock
	$(BIN)/python benchmarks/throughput.py $(ARGS)
	$(BIN)/python benchmarks/tables.py

zoo: $(READY) ## Train every task that has tuned settings, hours in all; ARGS="hopper swimmer" says which
	$(BIN)/python benchmarks/zoo.py $(ARGS)
	$(BIN)/python benchmarks/gallery.py $(ARGS)
	$(BIN)/python benchmarks/tables.py

reproduce: $(READY) ## Run the comparison with reinforcement learning again; ARGS="table1 noise" says which part of it
	$(BIN)/python -m pip install --quiet -r requirements-bench.lock
	$(BIN)/python benchmarks/reproduce.py $(ARGS)
	$(BIN)/python benchmarks/tables.py

gif: $(READY) ## Make README's moving picture from the newest run, or from ARGS=RUN
	$(BIN)/python benchmarks/gif.py $(ARGS)

docs: $(READY) ## Build the site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean: ## Remove the environment and all caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
