# What a newcomer needs: make run, make test. What a change needs before it lands: make check. Figures: make bench.
VENV := .venv
PYTHON := $(VENV)/bin/python
DATA ?= data

.PHONY: run test check format bench peers lock docs clean

run: $(VENV)/runtime.stamp
	@$(VENV)/bin/mailfleet serve --sandbox --data $(DATA)

test: $(VENV)/dev.stamp peers
	$(PYTHON) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: $(VENV)/dev.stamp
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/dev.stamp
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/dev.stamp
	scripts/install-mail-peers
	scripts/install-bench-peers
	$(PYTHON) -m bench $(if $(ONLY),--only $(ONLY))

# Real programs that the tests talk to, from Debian's packages.
peers:
	scripts/install-peers

# Reference pages that are generated from the code.
docs: $(VENV)/dev.stamp
	$(VENV)/bin/mailfleet settings example > docs/reference/mailfleet.example.toml
	$(VENV)/bin/mailfleet settings reference > docs/reference/settings.md
	$(PYTHON) -m mailfleet.cli.reference > docs/reference/cli.md
	$(PYTHON) -m mailfleet.cli.reference metrics > docs/reference/metrics.md

PIP_COMPILE := $(VENV)/bin/pip-compile -q --strip-extras --upgrade --generate-hashes --allow-unsafe --no-emit-options --no-header

# New versions of everything; read the diff before you commit it.
lock: $(VENV)/dev.stamp
	echo "setuptools>=70.1" | $(PIP_COMPILE) -o requirements/build.txt -
	$(PIP_COMPILE) -o requirements/runtime.txt pyproject.toml
	$(PIP_COMPILE) --extra dev -c requirements/runtime.txt -o requirements/dev.txt pyproject.toml

$(VENV)/bin/python:
	scripts/make-venv $(VENV)

$(VENV)/runtime.stamp: $(VENV)/bin/python requirements/build.txt requirements/runtime.txt pyproject.toml
	$(PYTHON) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/build.txt
	$(PYTHON) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(PYTHON) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp requirements/dev.txt
	$(PYTHON) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .cache build *.egg-info
