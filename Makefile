# The two commands of the README, and what developers run. Everything needed is installed here, into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip's own copy of a CPU build, where there is one; elsewhere the registry's build of this version.
TORCH ?= torch==2.13.0
WORKERS ?= 2
# Per cent of lines that the tests must run: a whole run had 90.1, and random examples move it a little. Compiled loops
# do not count (pyproject.toml).
COVERAGE ?= 89

.PHONY: plan test lint types arch docs bench calibrate clean

plan: $(VENV)/core.stamp
	$(BIN)/uniap plan bert-huge --cluster 8xV100-32G --batch 32
	@echo
	$(BIN)/uniap plan llama-7b --cluster 8xA100-40G --batch 32

test: $(VENV)/test.stamp lint types arch docs
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --cov --cov-report= --cov-fail-under=$(COVERAGE)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.stamp
	$(BIN)/mypy

arch: $(VENV)/test.stamp
	$(BIN)/lint-imports

docs: $(VENV)/docs.stamp
	$(BIN)/mkdocs build --strict

bench: $(VENV)/test.stamp
	$(BIN)/python -m bench

calibrate: $(VENV)/test.stamp
	$(BIN)/python -m bench calibrate

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/core.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/test.stamp: $(VENV)/core.stamp
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q -e '.[dev,solvers,gurobi,torch,hf,peft,megatron]'
	touch $@

$(VENV)/docs.stamp: $(VENV)/core.stamp
	$(BIN)/pip install -q -e '.[docs]'
	touch $@
