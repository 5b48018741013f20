# Everything a person types here. `make` alone lists it.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-push serve test soak matrix fuzz lint format bench docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment and build the core (done by the others when needed)

$(READY): pyproject.toml setup.py $(wildcard csrc/*.c csrc/*.h csrc/*.py csrc/python/*) scripts/setup scripts/hotreload
	@PYTHON=$(PYTHON) VENV=$(VENV) scripts/setup

demo: $(READY) ## edits to C going live in a loaded server, with a table at the end
	@$(BIN)/python examples/server/demo.py $(ARGS)

demo-push: $(READY) ## C code pushed into four loaded workers, all or none, and out of them again
	@$(BIN)/python examples/server/demo_push.py $(ARGS)

serve: $(READY) ## the example server with hot reload on: edit examples/server/render.c and watch the page
	@cd examples/server && ../../$(BIN)/hotreload build && \
	  exec ../../$(BIN)/hotreload run -- ../../$(BIN)/gunicorn -c gunicorn.conf.py app:app

test: $(READY) ## the tests, three at a time (ARGS="-k hammer" for some of them)
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(READY) ## the long ones: 1,000 edits in a serving process, 100,000 commits under fire
	@$(BIN)/python -m pytest -m soak -s $(ARGS)

matrix: $(READY) ## the tests of patches over {jump, slot} x {-O0 ... -Os} x {gcc, clang}, most of an hour
	@$(BIN)/python -m pytest -m matrix -s $(ARGS)

fuzz: $(READY) ## the parsers against anything, a minute for each (HOTRELOAD_FUZZ_SECONDS=600 for ten)
	@HOTRELOAD_FUZZ_SECONDS=$${HOTRELOAD_FUZZ_SECONDS:-60} $(BIN)/python -m pytest tests/fuzz $(ARGS)

lint: $(READY) ## formatting, ruff, mypy, spelling, and the core under both compilers with every warning an error
	@VENV=$(VENV) scripts/lint

format: $(READY) ## put Python and C into the project's format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix-only . && $(BIN)/clang-format -i csrc/*.c csrc/*.h csrc/python/*.c csrc/python/*.h

bench: $(READY) ## the benchmarks, one after the other
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs: $(READY) ## the documentation as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html; with search: $(PYTHON) -m http.server -d build/site"

clean: ## remove what was built
	@rm -rf $(VENV) build dist *.egg-info hotreload/live/_core*.so hotreload/live/_core.c examples/server/build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
