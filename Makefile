# Each goal makes the environment it needs. Offline but for the package index that pip is set to.

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
DATA ?= ../shared/data
SETS := mpdd_metal_plate mvtec_bottle mvtec_transistor_nomask elpv_solar_mono ksdd_crops magnetic_tile

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
SAY = @printf '\n== %s\n'

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs clean
.DELETE_ON_ERROR:

help:
	@printf '%s\n' \
	    'make demo    draw a sample part, learn it, judge it, and write demo/report/index.html' \
	    'make test    run every test' \
	    'make check   format, lint and types' \
	    'make bench   measure all detectors on the six sets in DATA (../shared/data), then make docs' \
	    'make docs    write the tables that the docs take from the code and the results' \
	    'make clean   remove the environment, the demo and all caches' \
	    '' \
	    'The environment is $(VENV); another one: make test VENV=/some/folder'

$(VENV)/.ready: pyproject.toml constraints.txt
	$(SAY) 'making $(VENV); the first time this downloads torch'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	$(PIP) --constraint constraints.txt --editable '.[train]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(SAY) 'installing the tools of development'
	$(PIP) --constraint constraints.txt --group dev
	@touch $@

demo: $(VENV)/.ready
	$(SAY) 'running: unmask demo'
	@if [ -e demo ] && [ ! -e demo/.made-by-make ]; then \
	    echo 'demo/ is there and is not from make demo; move it away first'; exit 1; fi
	@rm -rf demo && mkdir demo && touch demo/.made-by-make
	$(BIN)/unmask demo demo
	@printf '\nThe report: %s\n' '$(CURDIR)/demo/report/index.html'

test: $(VENV)/.ready-dev
	$(SAY) 'running every test'
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.ready-dev
	$(SAY) 'checking format, lint and types'
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict

bench: $(VENV)/.ready-dev
	$(SAY) 'measuring what benchmarks/results/six_sets lacks'
	$(BIN)/unmask bench $(SETS:%=$(DATA)/%) --resume --no-pictures -o benchmarks/results/six_sets $(ARGS)
	$(BIN)/python docs/generate.py

docs: $(VENV)/.ready-dev
	$(SAY) 'writing the tables of README.md and docs/'
	$(BIN)/python docs/generate.py

clean:
	$(SAY) 'removing the environment, the demo and all caches'
	@if [ -e demo/.made-by-make ]; then rm -rf demo; fi
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
