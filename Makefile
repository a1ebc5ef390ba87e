PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint clean

demo: $(STAMP)  ## train and draw everything small, without a download, into demo/
	$(BIN)/firstspike demo --out demo --resume

test: $(STAMP)  ## run the test suite
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(STAMP)  ## style, formatting and types
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:  ## remove the environment and what the commands wrote
	rm -rf .venv demo runs
