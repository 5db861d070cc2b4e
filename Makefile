# Everything on a fresh machine with Python 3.11+, pip and make:  make demo   make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt
SEED ?= 0
FILES ?= 2000
SETTINGS ?= 500
LISTED ?= 1000000

.PHONY: demo test lint types docs package bench fuzz study-kills web clean

demo: $(VENV)/.installed
	$(BIN)/gemel pretrain digits --seed $(SEED) --out runs/demo --overwrite

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell src tests docs benchmarks README.md CONTRIBUTING.md CHANGELOG.md

types: $(VENV)/.installed-dev
	$(BIN)/pyright

# the site, and the notebook run from top to bottom; any warning fails
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# the wheel and the source archive, as they would be uploaded
package: $(VENV)/.installed-package
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

bench: $(VENV)/.installed-bench
	$(BIN)/python -W ignore benchmarks/views.py
	$(BIN)/python -W ignore benchmarks/loader.py
	$(BIN)/python benchmarks/listing.py --files $(LISTED)
	$(BIN)/python -W ignore benchmarks/step.py --only networks

# the explorer's page from its sources; needs node and npm, which gemel itself does not
web:
	cd web && npm install --no-package-lock --no-audit --no-fund --silent && npm run --silent build

fuzz: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/fuzz.py --files $(FILES) --settings $(SETTINGS) --seed $(SEED) --out docs/studies/fuzz.md

study-kills: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/kills.py

# every study of `gemel study`: make study-epochs, make study-barlow-loss, ...
study-%: $(VENV)/.installed
	$(BIN)/gemel study $* --tables docs/studies

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch torchvision
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(INSTALL) --editable '.[bench]' || echo "Not all peers can be installed here; those that are missing are left out."
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	touch $@

$(VENV)/.installed-package: $(VENV)/.installed
	$(INSTALL) build twine check-wheel-contents
	touch $@

clean:
	rm -rf $(VENV) site dist runs .pytest_cache .ruff_cache .hypothesis
