# `make demo` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
LOWEST_VENV ?= .venv-lowest
LOWEST_BIN = $(LOWEST_VENV)/bin
# The tests that need no torch and are not the same code once more.
LOWEST_TESTS = tests/batch/test_hostile_stores.py tests/batch/test_loader.py tests/batch/test_remote.py \
	tests/batch/test_show.py tests/batch/test_sources.py \
	tests/checkpoints/test_hub.py tests/checkpoints/test_packages.py tests/checkpoints/test_store.py \
	tests/cli/test_cli.py tests/core/test_names.py tests/images/test_figures.py tests/images/test_pictures.py \
	tests/methods/test_cam.py

# Tests start a hundred processes, and each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

# A Python newer than the oldest that is supported; pyenv's shim for a version that is not active fails to start.
NEWEST_PYTHON ?= $(shell for python in python3.13 "$$(pyenv prefix 3.13 2>/dev/null)/bin/python3.13"; do \
	"$$python" -c "" 2>/dev/null && echo "$$python" && break; done)
NEWEST_VENV ?= .venv-newest
NEWEST_BIN = $(NEWEST_VENV)/bin
# The tests that a new release of JAX or Flax is most likely to break, and those that run at the lowest versions.
NEWEST_TESTS = $(LOWEST_TESTS) tests/core tests/explain/test_explainer.py tests/methods/test_methods.py \
	tests/methods/test_own_networks.py tests/methods/test_rules.py

.PHONY: demo test test-lowest test-newest bench lint format

demo: $(VENV)/demo.stamp
	$(BIN)/camjax explain examples/cat_and_coffee.jpg --top-k 6 --out out

test: $(VENV)/test.stamp
	$(BIN)/pytest -n auto --dist worksteal

# Whether pyproject's lower bounds are true: the packages it names at the lowest versions that it allows. There, old
# packages use names that newer ones deprecate; that is between them.
test-lowest: $(LOWEST_VENV)/stamp
	$(LOWEST_BIN)/pytest -n auto -W ignore::DeprecationWarning $(LOWEST_TESTS)

# The newest Python and the newest release of every package that pyproject admits, whatever the pins of `make test`.
test-newest: $(if $(NEWEST_PYTHON),$(NEWEST_VENV)/stamp)
ifeq ($(NEWEST_PYTHON),)
	@echo "test-newest: skipped, because no python3.13 was found; NEWEST_PYTHON=/path/to/python3.13 names one"
else
	$(NEWEST_BIN)/pytest -n auto -W ignore::DeprecationWarning $(NEWEST_TESTS)
endif

# About five minutes; `python -m benchmarks run --help` has the rest.
bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks run --workloads explanation --rounds 3 --seconds 0.5 --processes 0 \
		--sides "camjax,torch channels_last,torch.compile,torch.compile frozen,torchcam,grad-cam,matrix products"

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[offline]'
	touch $@

$(VENV)/test.stamp: pyproject.toml benchmarks/no-deps.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/no-deps.txt
	touch $@

$(LOWEST_VENV)/stamp: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST_VENV)
	$(LOWEST_BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(LOWEST_BIN)/uv pip install --quiet --python $(LOWEST_BIN)/python --resolution lowest-direct \
		-r pyproject.toml --extra test-lowest
	$(LOWEST_BIN)/uv pip install --quiet --python $(LOWEST_BIN)/python --no-deps --editable .
	touch $@

$(NEWEST_VENV)/stamp: pyproject.toml
	$(NEWEST_PYTHON) -m venv --clear $(NEWEST_VENV)
	$(NEWEST_BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test-newest]'
	touch $@

$(VENV)/bench.stamp: pyproject.toml benchmarks/no-deps.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/no-deps.txt
	touch $@
