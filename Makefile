# Two commands do everything on a fresh machine with Python >= 3.11: make demo, make test.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
OLDEST := .venv-oldest

# Tests of what depends on the version of Ultralytics.
HOOK_TESTS := build names optimizer join checkpoint nonfinite ddp life heads kinds csp own_blocks first_pass flops exporting

# Nothing here may call home, install behind your back, or spin on a shared machine.
export YOLO_OFFLINE ?= true
export YOLO_AUTOINSTALL ?= false
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Installed without bytecode, which the first import writes: without it, each process compiles half of PyTorch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types kernels tests oldest faults benchmark-zoo package clean help
help:
	@echo "make demo   train, validate and show a YOLO11 with linear attention (about 3 minutes on two cores)"
	@echo "make faults damaged input, full disks, kills and other packages, on purpose, for MINUTES=10 (docs/reliability.md)"
	@echo "make benchmark-zoo  what every packaged model takes beside its stock model (docs/models.md); 10 minutes, quiet"
	@echo "make package  build wheel and sdist, and try each in a fresh environment (PyTorch is installed once more: 7 GB)"
	@echo "make test   lint, types, the whole test suite, and the tests of the hooks on the oldest supported Ultralytics"

demo: $(READY)
	$(BIN)/yolomix demo

# Types are checked on one core while the other installs the oldest Ultralytics and compiles the CPU kernels, once for
# both workers of the tests and all their processes.
test: lint
	$(MAKE) --jobs=2 types $(OLDEST)/.ready kernels
	$(MAKE) tests oldest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests benchmarks

types: $(READY)
	$(BIN)/mypy

kernels: $(READY)
	$(BIN)/python -m tests.kernels

tests: $(READY)
	$(BIN)/pytest -n $${PYTEST_WORKERS:-2} --dist worksteal

# The oldest supported Ultralytics with what it needs, in a folder of its own in front of the same environment.
oldest: $(OLDEST)/.ready
	if test -d $(OLDEST)/ultralytics; then \
		PYTHONPATH=$(CURDIR)/$(OLDEST) YOLO_CONFIG_DIR=$(CURDIR)/$(OLDEST)/config \
		$(BIN)/pytest -n $${PYTEST_WORKERS:-2} --dist worksteal $(patsubst %,tests/hooks/test_%.py,$(HOOK_TESTS)) \
		tests/faults/test_faults.py::test_the_small_part_of_every_kind; \
	else echo "NOT RUN: the tests on Ultralytics 8.3.0, which needs numpy 1 and so Python 3.11 or 3.12"; fi

faults: $(READY)
	$(BIN)/python -m tests.faults $(KINDS) --minutes $${MINUTES:-10} --seed $${SEED:-0} $(if $(PLANT),--plant $(PLANT))

benchmark-zoo: $(READY)
	$(BIN)/python -m benchmarks.zoo --threads $${THREADS:-1} --scales $${SCALES:-first}

package: $(READY)
	$(BIN)/python -m tests.package

# A second call finds the stamp and installs nothing.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "yolomix needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; call make with PYTHON=/path/to/python")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Ultralytics 8.3.0 wants numpy 1, and that a pandas before 3; numpy 1 has no file for Python 3.13 and newer.
$(OLDEST)/.ready: $(READY)
	mkdir -p $(OLDEST)
	! $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || \
		$(BIN)/python -m pip install --quiet --no-deps --target $(OLDEST) \
		ultralytics==8.3.0 numpy==1.26.4 pandas==2.3.3 tqdm py-cpuinfo pytz
	@touch $@

clean:
	rm -rf $(VENV) $(OLDEST) build dist
