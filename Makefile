# Two commands do everything on a fresh machine with Python >= 3.11: make demo, make test.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Nothing here may call home, install behind your back, or spin on a shared machine.
export YOLO_OFFLINE ?= true
export YOLO_AUTOINSTALL ?= false
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint types tests oldest clean help
help:
	@echo "make demo   train, validate and show a YOLO11 with linear attention (about 4 minutes on two cores)"
	@echo "make test   lint, types and the whole test suite"

demo: $(READY)
	$(BIN)/yolomix demo

test: lint types tests oldest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

tests: $(READY)
	$(BIN)/pytest -n $${PYTEST_WORKERS:-2} --dist worksteal

# The oldest supported Ultralytics, in a folder of its own over the same environment.
oldest: $(READY)
	@echo "not wired yet"

# A second call finds the stamp and installs nothing.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "yolomix needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; call make with PYTHON=/path/to/python")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-oldest build dist
