# Each target does its own set-up: a virtual environment in .venv with pinned packages.
# Nothing is needed beforehand but make and Python 3.11, 3.12 or 3.13.
#   make PYTHON=/path/to/python3.12 demo    takes a certain Python
#   make WORKERS=1 test                     runs the tests in one process

SHELL := /bin/sh
VENV := .venv
RUN := runs/quickstart
WORKERS := 2
PYTHON :=

PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt

.PHONY: help demo test test-all mutations check docs bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    the whole way on drawn images, in a few minutes: data, training,'
	@echo '             measuring, search, export, check, report ($(RUN)/report.html)'
	@echo 'make test    style, types and the tests of every day (-m "not slow")'
	@echo 'make test-all   all tests: whole trainings, hundreds of searches, every fault'
	@echo 'make check   style and types only'
	@echo 'make docs    the documentation as a site with the API reference (site/index.html)'
	@echo 'make bench   all benchmarks (long)'
	@echo 'make clean   removes caches and build results; keeps .venv and runs'

demo: $(VENV)/demo.stamp
	@$(VENV)/bin/mess quickstart $(RUN)
	@echo 'In this shell first: . $(VENV)/bin/activate (docs/tutorial.md goes on from here)'

# One file stays with one process, so that its fixtures are made once; long files go first.
PYTEST := $(VENV)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: check
	@$(PYTEST) -m 'not slow'

test-all: check
	@$(PYTEST)

# Deliberate bugs, each of which some test has to see.
mutations: $(VENV)/dev.stamp
	@$(VENV)/bin/python -m tests.mutations.run

check: $(VENV)/dev.stamp
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --quiet --check . \
		|| { echo 'Not formatted; run .venv/bin/ruff format .' >&2; exit 1; }
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/lint-imports > $(VENV)/lint-imports.log 2>&1 \
		|| { cat $(VENV)/lint-imports.log >&2; exit 1; }

# Strict: a link that leads nowhere ends it.
docs: $(VENV)/docs.stamp
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --clean
	@echo 'site/index.html'

# Some need nothing, some a run with search results and exports (RUN=...; the demo's).
# bench_latency_model, bench_loader, bench_policies and bench_quantise, which need more,
# are run by hand.
bench: $(VENV)/dev.stamp
	@test -d $(RUN)/export || { echo 'No exports in $(RUN): make demo, or RUN=FOLDER' >&2; exit 1; }
	@set -e; for name in compile phone_agreement search thresholds transport voc; do \
		echo "== bench_$$name"; $(VENV)/bin/python benchmarks/bench_$$name.py; done
	@set -e; for name in linked 'forms --choice drop0' 'precisions --choice drop0'; do \
		set -- $$name; file=benchmarks/bench_$$1.py; shift; \
		echo "== $$file $$*"; $(VENV)/bin/python $$file $(RUN) "$$@"; done

clean:
	@rm -rf site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(VENV)/demo.stamp: $(VENV)/bin/pip setup.cfg constraints.txt
	@echo 'Installing pinned packages into $(VENV) (once, some minutes) ...'
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/bin/pip setup.cfg constraints.txt
	@echo 'Installing pinned packages for tests into $(VENV) (once, some minutes) ...'
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/docs.stamp: $(VENV)/bin/pip setup.cfg constraints.txt
	@echo 'Installing what makes the site into $(VENV) (once) ...'
	@$(PIP_INSTALL) -e '.[docs]'
	@touch $@

# A name on the path may be a stub that cannot run, or lack ensurepip (Debian without
# python3-venv): so each is tried. An unfinished environment is made anew.
$(VENV)/bin/pip:
	@python='$(PYTHON)'; \
	fits='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; \
	if [ -z "$$python" ]; then \
		for name in python3.13 python3.12 python3.11 python3 python; do \
			if "$$name" -c "$$fits" >/dev/null 2>&1; then python=$$name; break; fi; \
		done; \
	elif ! "$$python" -c "$$fits" >/dev/null 2>&1; then \
		echo "PYTHON=$$python cannot be used: Python 3.11 to 3.13 with venv is needed." >&2; \
		exit 1; \
	fi; \
	if [ -z "$$python" ]; then \
		echo 'No Python 3.11, 3.12 or 3.13 (with venv) found on the path.' \
			'Install one, or name it: make PYTHON=/path/to/python3.12 ...' >&2; \
		exit 1; \
	fi; \
	"$$python" -m venv --clear $(VENV)
