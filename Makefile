# `make` lists the targets. Everything is installed in .venv and fetched into data/. Two things are added to the system where
# they are missing (as root): python3-venv, and for the tests Chromium, which looks at the viewer and the report.

PYTHON ?= python3
PIPFLAGS ?= -qq# empty shows what pip does
ARGS ?=# for pytest: make test ARGS="-k shards -x"

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install $(PIPFLAGS) --disable-pip-version-check -c constraints.txt
failed = { echo "the installation failed (above); 'make $(1) PIPFLAGS=' shows more" >&2; exit 1; }
benchmarks = $(patsubst benchmarks/%.py,benchmarks.%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)))

.PHONY: help run test lint bench docs setup setup-all browser data lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: setup data ## Run the quickstart: installs what it needs, fetches its recordings, curates them
	$(BIN)/omnicurate run recipes/quickstart.yaml

test: setup-all data lint ## Install everything, then lint and run the tests (ARGS= for pytest)
	$(BIN)/python -m pytest $(ARGS)

lint: setup-all ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup-all data ## Run every benchmark
	@set -e; for module in $(benchmarks); do echo "== $$module"; $(BIN)/python -m $$module; done

docs: setup-all ## Write docs/recipes.md from the code
	$(BIN)/omnicurate schema --markdown > docs/recipes.md

setup: $(VENV)/.quickstart ## Install what the quickstart needs
setup-all: $(VENV)/.all browser ## Install every extra and the tools for development

# Without it the tests that need a browser are skipped, and say so.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing the Debian package chromium: tests look at the viewer and the report in a real browser"; \
			{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
				|| echo "chromium could not be installed: the tests that need a browser will be skipped" >&2; \
		else \
			echo "no Chromium here: the tests that need a browser will be skipped (as root, apt-get install chromium)" >&2; \
		fi; }

data: ## Fetch the quickstart's recordings (18 MB, CC-BY-SA 3.0)
	@recipes/quickstart/get-data data/quickstart

clean: ## Remove what make built and fetched; results (out/, .omnicurate/) stay
	rm -rf $(VENV) data/quickstart build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# Stamps: an install is redone when what it was made from has changed. The full set contains the quickstart's.
$(VENV)/.quickstart: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing Omnicurate for the quickstart in $(VENV) (the first time, some 350 MB are downloaded)"
	@$(INSTALL) -e '.[audio,offline]' || $(call failed,setup)
	@touch $@

$(VENV)/.all: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing Omnicurate with all extras and the tools for development in $(VENV)"
	@$(INSTALL) -e '.[all,dev]' || $(call failed,setup-all)
	@touch $(VENV)/.quickstart $@

# Debian and Ubuntu ship Python without the part that makes environments.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Omnicurate needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V): name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "$(PYTHON) cannot make virtual environments: installing the Debian package $$package"; \
			apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$package >/dev/null; \
		else \
			echo "$(PYTHON) cannot make virtual environments: as root, apt-get install $$package (or name another: make PYTHON=/path/to/python3)" >&2; exit 1; \
		fi; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

lock: ## Resolve all dependencies anew and write constraints.txt
	@set -e; new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	$(PYTHON) -m venv "$$new/venv"; \
	"$$new/venv/bin/python" -m pip install $(PIPFLAGS) --disable-pip-version-check '.[all,dev]'; \
	"$$new/venv/bin/python" -m pip freeze --exclude omnicurate >"$$new/frozen"; \
	if grep -vE '^[A-Za-z0-9._-]+==[0-9][^ +]*$$' "$$new/frozen"; then echo "not a plain published version (above): not locked" >&2; exit 1; fi; \
	{ echo "# Exact versions of all that .[all,dev] installs on Python $$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'). Written by make lock."; \
	  LC_ALL=C sort -f "$$new/frozen"; } >"$$new/constraints.txt"; \
	cp "$$new/constraints.txt" constraints.txt; \
	echo "constraints.txt: $$(wc -l <"$$new/frozen") packages"
