# The doors of the project, one line each. `make demo` and `make test` set up what they need.
PYTHON ?= python3
BIN := .venv/bin
PROTOS := .venv-protos/bin/python
SOURCES := scheduler model training server client cli demo bench deploy
export PIP_DISABLE_PIP_VERSION_CHECK := 1

demo: .venv/ready
	$(BIN)/python demo/run.py

serve: .venv/ready
	$(BIN)/offramp serve --checkpoint checkpoints/sst2-minilm

test: .venv/ready
	$(BIN)/python -m pytest -q

check: .venv/ready .venv-protos/ready
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES) tests && $(BIN)/pyright --pythonpath $(BIN)/python $(SOURCES) tests
	$(BIN)/lint-imports
	$(PROTOS) protos/generate.py --check
	$(MAKE) test

protos: .venv-protos/ready
	$(PROTOS) protos/generate.py

package: .venv/ready
	.ci/package

bench: .venv/ready
	$(BIN)/python bench/regressions.py

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is too old: name a Python from 3.11 on, make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-protos/ready: protos/constraints.txt
	$(PYTHON) -m venv .venv-protos
	.venv-protos/bin/pip install --quiet --requirement protos/constraints.txt
	touch $@

.PHONY: demo serve test check protos package bench
