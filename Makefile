PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# The core's tests: what spikes, neurons, layers, kernels, losses and decisions do.
FAST := tests/kernels tests/neurons tests/nn tests/test_*.py

.PHONY: demo test test-fast lint bench-env clean

demo: $(STAMP)  ## train and draw everything small, without a download, into demo/
	$(BIN)/firstspike demo --out demo --resume

test: $(STAMP)  ## run the test suite
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-fast: $(STAMP)  ## its quick part, for daily work
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(FAST) $(PYTEST_FLAGS)

lint: $(STAMP)  ## style, formatting and types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

bench-env: .bench-env/.installed  ## install the libraries that firstspike bench compares with

.bench-env/.installed: benchmarks/requirements.txt benchmarks/requirements-peers.txt
	$(PYTHON) -m venv .bench-env
	.bench-env/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	.bench-env/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		-r benchmarks/requirements-peers.txt
	touch $@

clean:  ## remove the environments and what the commands wrote
	rm -rf .venv .bench-env demo runs
