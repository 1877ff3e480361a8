# make demo    a small dataset in ./toffee, a row of it, and the editor in ./toffee-editor
# make test    set up, fast tests                                 make test-slow   the rest of the tests
# make check   ruff, strict types, fast tests
#
# A CPU-only torch:  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Another Python:    make demo PYTHON=python3.12 (the pinned versions in constraints.txt need 3.11 or later)
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
DEMO_PAIRS ?= 32
PYTEST_ARGS ?=

DEMO = --recipe tiny --pairs $(DEMO_PAIRS) --output ./toffee

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: demo test test-slow check clean
.DELETE_ON_ERROR:

# ./toffee is the demo's own output: one of other weights or another version makes room, other folders stay.
demo: $(VENV)/.ready
	@if $(BIN)/toffee plan $(DEMO) 2>&1 >/dev/null | grep -q 'holds run' && \
	grep -qs '^ "recipe": "tiny",' toffee/recipe.json; then rm -rf toffee; fi
	$(BIN)/toffee build $(DEMO)
	$(BIN)/python -c 'import datasets; row = datasets.load_dataset("toffee", split="train")[0]; \
	print("\nThe first row:", *(f"  {name:15} {value}" for name, value in row.items()), sep="\n")'
	$(BIN)/toffee publish model --model editor --to ./toffee-editor --replace
	@echo; echo "Look at toffee/contact_sheet.png, read toffee/README.md and toffee-editor/README.md."
	@echo "The command toffee is in $(BIN): source $(BIN)/activate"

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

check: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# torch comes first and exactly as pinned, so that nothing else chooses one.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(PIP) -c constraints.txt -e .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) -c constraints.txt -e '.[dev,space]'
	touch $@

clean:
	rm -rf $(VENV) build dist toffee_hf.egg-info
