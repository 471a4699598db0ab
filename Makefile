# Each target sets up what it needs; a second call reuses it. Nothing but Python >= 3.10 is assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo demo-synth demo-text demo-translate test test-slow check bench bench-audit bench-probe clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed; set PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py --out demo

demo-synth: $(STAMP)
	$(BIN)/python examples/demo_synth.py --out demo-synth

demo-text: $(STAMP)
	$(BIN)/python examples/demo_text.py --out demo-text

demo-translate: $(STAMP)
	$(BIN)/python examples/demo_translate.py --out demo-translate

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m 'slow and not gpu'

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py tests/test_house.py

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

bench-audit: $(STAMP)
	$(BIN)/python -m benchmarks.audit --large 1000000

bench-probe: $(STAMP)
	$(BIN)/python -m benchmarks.probe

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
