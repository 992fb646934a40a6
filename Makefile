# `make demo` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
LOWEST_VENV ?= .venv-lowest
LOWEST_BIN = $(LOWEST_VENV)/bin
# The tests that need no torch and are not the same code once more.
LOWEST_TESTS = tests/batch/test_loader.py tests/batch/test_show.py tests/batch/test_sources.py \
	tests/checkpoints/test_hub.py tests/checkpoints/test_packages.py tests/checkpoints/test_store.py \
	tests/cli/test_cli.py tests/core/test_names.py tests/images/test_figures.py tests/images/test_pictures.py \
	tests/methods/test_cam.py

# Tests start a hundred processes, and each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-lowest bench lint format

demo: $(VENV)/demo.stamp
	$(BIN)/camjax explain examples/cat_and_coffee.jpg --top-k 6 --out out

test: $(VENV)/test.stamp
	$(BIN)/pytest -n auto --dist worksteal

# Whether pyproject's lower bounds are true: the packages it names at the lowest versions that it allows. There, old
# packages use names that newer ones deprecate; that is between them.
test-lowest: $(LOWEST_VENV)/stamp
	$(LOWEST_BIN)/pytest -n auto -W ignore::DeprecationWarning $(LOWEST_TESTS)

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

$(VENV)/bench.stamp: pyproject.toml benchmarks/no-deps.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/no-deps.txt
	touch $@
