# `make demo` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test bench lint format

demo: $(VENV)/demo.stamp
	$(BIN)/camjax explain examples/cat_and_coffee.jpg --top-k 6 --out out

test: $(VENV)/test.stamp
	$(BIN)/pytest -n auto

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

$(VENV)/bench.stamp: pyproject.toml benchmarks/no-deps.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/no-deps.txt
	touch $@
