PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Two processes, each with whole files, whose tests share trained runs.
IN_TWO := -n 2 --dist loadfile
# The core's tests: what spikes, neurons, layers, kernels, losses and decisions do.
FAST := tests/kernels tests/neurons tests/nn tests/test_*.py

.PHONY: demo test test-fast test-all lint docs wheel-check bench-env bench-gpu nir-env clean

demo: $(STAMP)  ## train and draw everything small, without a download, into demo/
	$(BIN)/firstspike demo --out demo --resume

test: $(STAMP)  ## run the test suite
	$(BIN)/python -m pytest $(IN_TWO) $(PYTEST_FLAGS)

test-fast: $(STAMP)  ## its quick part, for daily work
	$(BIN)/python -m pytest $(IN_TWO) -m "not slow" $(FAST) $(PYTEST_FLAGS)

test-all: $(STAMP)  ## with what generates code with a C++ compiler
	$(BIN)/python -m pytest $(IN_TWO) -m "codegen or not codegen" $(PYTEST_FLAGS)

lint: $(STAMP)  ## style, formatting and types
	$(BIN)/ruff check src tests benchmarks tutorials docs
	$(BIN)/ruff format --check src tests benchmarks tutorials docs
	$(BIN)/mypy

docs: $(STAMP)  ## run the tutorials and build the site, into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

wheel-check:  ## build the wheel, and use it in an environment of its own, away from the sources
	tools/wheel_check.sh $(PYTHON)

bench-env: .bench-env/.installed  ## install the libraries that firstspike bench compares with

.bench-env/.installed: benchmarks/requirements.txt benchmarks/requirements-peers.txt
	$(PYTHON) -m venv .bench-env
	.bench-env/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	.bench-env/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		-r benchmarks/requirements-peers.txt
	touch $@

bench-gpu: $(STAMP) bench-env  ## on a machine with a CUDA device: its kernels' tests, then its rows of the comparison
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cuda]"
	$(BIN)/python -m pytest -m gpu $(PYTEST_FLAGS)
	$(BIN)/firstspike bench --results benchmarks/results --rows gpu-linear-train-vs-dense \
		gpu-linear-train-vs-spikingjelly gpu-deep-window-train-vs-dense

nir-env: .nir-env/.installed  ## install the simulators whose import of NIR benchmarks/nir_readers.py measures

.nir-env/.installed: benchmarks/requirements-nir.txt benchmarks/requirements-nir-readers.txt
	$(PYTHON) -m venv .nir-env
	.nir-env/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-nir.txt
	.nir-env/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		-r benchmarks/requirements-nir-readers.txt
	touch $@

clean:  ## remove the environments and what the commands wrote
	rm -rf .venv .bench-env .nir-env demo runs docs/_build docs/tutorials
