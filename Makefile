# make lab    set up, then open the notebooks
# make test   set up, then the checks and the tests (at most 25 minutes on 2 cores)
# make test-all  the same, and what is too long for it: all notebooks walked in a browser, networks compiled
# make check  the daily tier: style, types and the quick tests (under 3 minutes)
# make setup  only the environment, in .venv
# make docs  the documentation as a static site in build/site, every link checked
# make notebooks  execute all notebooks anew and save them with their outputs

PYTHON ?= python3
BIN := .venv/bin
# JupyterLab does not run as root unless told to; containers have no other user.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
# Without a display there is no browser to open: the address is printed instead.
BROWSER := $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname))),,--no-browser)

# An environment works only where it was made, and with the Python that it was made with: in another place, and for
# another Python that is asked for, it is made anew.
VERSION := import sys; print(sys.version_info[:2])
MOVED := $(shell test -s .venv/ready && ! grep -qxF '$(CURDIR)' .venv/ready && echo moved)
ifneq "$(filter command environment,$(firstword $(origin PYTHON)))" ""
OTHER := $(shell test -x $(BIN)/python && test "$$($(BIN)/python -c '$(VERSION)')" != "$$($(PYTHON) -c '$(VERSION)')" && echo other)
endif
ifneq "$(MOVED)$(OTHER)" ""
.PHONY: .venv/ready
endif

.PHONY: lab test test-all check setup style notebooks docs browser clean

lab: setup
	$(BIN)/jupyter lab notebooks $(ROOT) $(BROWSER)

test: setup style browser
	$(BIN)/pytest
	$(BIN)/pytest --nbmake notebooks/

test-all: test
	$(BIN)/pytest -m long

check: setup style
	$(BIN)/pytest -m "not slow"

style: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Finds a Chromium for the browser tests, or fetches one; without it they are skipped.
browser: setup
	$(BIN)/python tests/browser/chromium.py

docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python docs/site.py

notebooks: setup
	$(BIN)/python docs/execute_notebooks.py

setup: .venv/ready

# Made anew when the dependencies change; otherwise this takes no time.
.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "slicer-lite needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 …"; exit 1; }
	@echo "Setting up .venv: some minutes, and about 7 GB."
	# One without pip is what an interruption leaves, or a system that lacks its package for venv.
	test -z "$(MOVED)$(OTHER)" && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[notebooks,test]'
	# JupyterLab would ask whether to fetch news from its makers.
	$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements
	@echo '$(CURDIR)' > $@

clean:
	rm -rf build tests/browser/artefacts .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
