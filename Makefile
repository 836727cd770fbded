# GNU make 3.81 (macOS) and a POSIX shell are enough. `make` alone says what there is to do.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:

# PYTHON may also come from the environment; the others only from the command line, as in `make demo DIR=/tmp/demo`.
PYTHON ?= python3
VENV = .venv
DIR = demo
CERTIFICATES = amber/certificates
MINUTES = 10
ARGS =

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Everything by hash. Never in isolation: what pip builds there it builds with tools that no hash pins.
PINNED := $(PIP) install --require-hashes --no-build-isolation

# What the wheel is built from. The list is kept too, so that a file removed counts as a change.
SOURCES := pyproject.toml README.md LICENSE $(shell find broker connectors schemas examples -type f \
	! -name '*.pyc' ! -name '.*' 2>/dev/null | LC_ALL=C sort)
TYPED := broker connectors deploy tests $(wildcard bench)

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench sweep stress fuzz kafka-up kafka-down cluster-up cluster-down dev lock clean FORCE

help:
	@echo 'ftf-broker: what make can do here'
	@echo
	@echo '  make demo      a coalition of fictional states shares records in demo/ (DIR=…), an auditor proves it'
	@echo '  make install   $(BIN)/ftf-broker, from the built wheel and pinned dependencies'
	@echo
	@echo '  make test      every test, against the built wheel (ARGS="-k directory"; FTF_THOROUGH=1 looks longer)'
	@echo '  make check     lint, format, types, and whether the schemas still read what was written'
	@echo '  make bench     measures on this machine and prints the table'
	@echo '  make sweep     every batch of a long log through every manipulation; writes the table of docs/threat-model.md'
	@echo '  make stress    1,000 runs in which everybody is honest and nothing may be found (ARGS="--seed 31")'
	@echo '  make fuzz      mutations that are truly signed and sealed, for ten minutes (MINUTES=…)'
	@echo
	@echo '  make kafka-up  a Kafka broker at 127.0.0.1:19092, on the JVM (Java 17 and Maven); make kafka-down ends it'
	@echo '  make cluster-up  three brokers with TLS and ACLs: deploy/README.md; make cluster-down ends them'
	@echo
	@echo '  make dev       installs the source tree in place of the wheel: edits count at once'
	@echo '  make lock      recreates requirements/*.txt from pyproject.toml (UPGRADE=1 takes newer versions)'
	@echo '  make clean     removes $(VENV), builds and caches; never a demo'
	@echo
	@echo 'Needs Python 3.11 or later: $(PYTHON), or say make PYTHON=python3.12 …'

install: $(VENV)/.installed

demo: install
	@$(BIN)/ftf-broker demo --dir '$(DIR)'

test: install $(VENV)/.tools
	@$(BIN)/pytest $(ARGS)

check: $(VENV)/.tools
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo 'error: not formatted; hint: $(BIN)/ruff format .' >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary $(TYPED)
	@$(BIN)/python -m broker.avro.compatibility schemas/records

bench: install
	@$(BIN)/python -m bench $(ARGS)

# -P: without it Python would take the source tree in place of the wheel.
sweep: install $(VENV)/.tools
	@PYTHONPATH=tests $(BIN)/python -P -m attacks.sweep $(ARGS)

stress: install $(VENV)/.tools
	@PYTHONPATH=tests $(BIN)/python -P -m stress $(ARGS)

fuzz: install $(VENV)/.tools
	@PYTHONPATH=tests $(BIN)/python -P -m fuzz --minutes $(MINUTES) $(ARGS)

kafka-up:
	@$(PYTHON) deploy/kafka/kafka_jvm.py up

kafka-down:
	@$(PYTHON) deploy/kafka/kafka_jvm.py down

cluster-up:
	@$(PYTHON) deploy/cluster.py up --certificates '$(CERTIFICATES)'

cluster-down:
	@$(PYTHON) deploy/cluster.py down

dev: $(VENV)/.tools
	@rm -f $(VENV)/.installed
	@$(PIP) install --no-index --no-deps --no-build-isolation --force-reinstall --editable .
	@echo 'the source tree is installed; make install or make test puts the wheel back'

# A file under requirements/ is also what the next run starts from: without UPGRADE only what must change does.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
lock: $(VENV)/.created
	@$(PINNED) --only-binary :all: -r requirements/lock.txt
	@$(COMPILE) pyproject.toml -o requirements/run.txt >/dev/null
	@$(COMPILE) --group build -c requirements/run.txt -o requirements/build.txt >/dev/null
	@$(COMPILE) --group dev -c requirements/run.txt -c requirements/build.txt -o requirements/dev.txt >/dev/null
	@$(COMPILE) --group lock -o requirements/lock.txt >/dev/null

clean:
	@test ! -d build/kafka || $(PYTHON) deploy/kafka/kafka_jvm.py down
	@test ! -d build/cluster || $(PYTHON) deploy/cluster.py down
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find broker connectors tests $(wildcard bench) -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps in the environment itself: whoever removes it removes them too.

$(VENV)/.created:
	@$(PYTHON) -c '' 2>/dev/null || { \
	  echo 'error: $(PYTHON) not found' >&2; \
	  echo 'hint: install Python 3.11 or later, or name one: make PYTHON=/path/to/python3' >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) -c 'import platform; print(platform.python_version())')" >&2; \
	  echo 'hint: name a newer one: make PYTHON=python3.12' >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'error: $(PYTHON) cannot make virtual environments' >&2; \
	  echo 'hint: on Debian and Ubuntu: apt install python3-venv' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.dependencies: $(VENV)/.created requirements/run.txt requirements/build.txt
	@echo 'installing the pinned dependencies into $(VENV)' >&2
	@$(PINNED) --only-binary :all: -r requirements/build.txt
	@$(PINNED) -r requirements/run.txt || { \
	  echo 'error: a pinned dependency cannot be installed' >&2; \
	  echo 'hint: Python 3.11 to 3.13 need no C compiler; later ones need one: make clean, then make PYTHON=…' >&2; exit 3; }
	@touch $@

$(VENV)/.tools: $(VENV)/.dependencies requirements/dev.txt
	@echo 'installing the pinned tools for tests and checks into $(VENV)' >&2
	@$(PINNED) --only-binary :all: -r requirements/dev.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(VENV)/.sources $(SOURCES)
	@echo 'building and installing ftf-broker' >&2
	@rm -rf build/wheel && touch $@.new
	@$(PIP) wheel --no-index --no-deps --no-build-isolation --wheel-dir build/wheel .
	@$(PIP) install --no-index --no-deps --force-reinstall build/wheel/ftf_broker-*.whl
	@mv $@.new $@ # dated from before the build: an edit made meanwhile counts

$(VENV)/.sources: $(VENV)/.created FORCE
	@printf '%s\n' $(SOURCES) >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
