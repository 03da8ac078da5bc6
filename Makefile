# Every target works from a bare Python >= 3.11: it makes .venv and installs requirements.lock into it first.
# PYTHON chooses the interpreter, ARGS goes on to pytest or to each benchmark: make test ARGS="-k fusion -x".

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# One thread a process: two test workers already fill two cores, and torch slows down many times over when they contend.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --durations=25
# Types and array shapes are checked at every call: where arrays are made by default, everywhere in test-all.
ARRAYS := indexers,mmrec.fusion,mmrec.users,mmrec.training,mmrec.recommend,mmrec.evaluation,mmrec.finetuning
EVERYWHERE := mmrec,indexers,pipelines

.PHONY: demo test test-all coverage lint docs bench format lock clean
.DEFAULT_GOAL := test

# Where bytecode may not be kept, each process compiles thousands of modules anew: torch alone takes two seconds more.
unexport PYTHONDONTWRITEBYTECODE

demo: $(INSTALLED)
	$(BIN)/python -m pipelines.demo $(ARGS)

test: $(INSTALLED)
	$(PYTEST) --dist worksteal --jaxtyping-packages=$(ARRAYS),shape_checks.checker tests $(ARGS)

test-all: $(INSTALLED)
	$(PYTEST) --dist loadfile --jaxtyping-packages=$(EVERYWHERE),shape_checks.checker --nbmake -m "not bench" \
		tests $(wildcard notebooks/*.ipynb) $(ARGS)

coverage: $(INSTALLED)
	$(PYTEST) --dist worksteal --cov=mmrec --cov=indexers --cov-report=term:skip-covered tests $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory docs

# The site, built strictly: a broken link or a wrong docstring is an error. To read it: build/docs/index.html.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(INSTALLED)
	@set -e; for file in $$(grep -l '"__main__"' benchmarks/*.py); do \
		name=$$(basename $$file .py); echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS); \
	done

format: $(INSTALLED)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(INSTALLED)
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --all-extras --group dev pyproject.toml \
		-o requirements.lock --no-header --no-annotate

clean:
	rm -rf $(VENV) .cache build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The sync removes whatever the lock does not name, mmrec itself included, so mmrec is installed after it.
$(INSTALLED): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: no '$(PYTHON)' here; name a Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: mmrec needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
