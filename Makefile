# make lab    set up, then open the notebooks
# make test   set up, then every check and every test (at most 25 minutes on 2 cores)
# make check  the daily tier: style, types and the quick tests (under 3 minutes)
# make setup  only the environment, in .venv
# make notebooks  execute all notebooks anew and save them with their outputs

PYTHON ?= python3
BIN := .venv/bin
# JupyterLab does not run as root unless told to; containers have no other user.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
# Without a display there is no browser to open: the address is printed instead.
BROWSER := $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname))),,--no-browser)

.PHONY: lab test check setup style notebooks clean

lab: setup
	$(BIN)/jupyter lab notebooks $(ROOT) $(BROWSER)

test: setup style
	$(BIN)/pytest
	$(BIN)/pytest --nbmake notebooks/

check: setup style
	$(BIN)/pytest -m "not slow"

style: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

notebooks: setup
	$(BIN)/python docs/execute_notebooks.py

setup: .venv/ready

# Made anew when the dependencies change; otherwise this takes no time.
.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "slicer-lite needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 …"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[notebooks,test]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
