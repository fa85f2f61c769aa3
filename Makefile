# Quick, Draw! drawings -> TFRecords -> a trained classifier. `make help` lists the targets.

PYTHON     ?= python3
# The environment that `make setup` makes.
VENV       ?= .venv
# What the set-up installs from; requirements-gpu.lock adds CUDA's libraries.
LOCK       ?= requirements.lock
SOURCE     ?= download
SOURCE_DIR ?=
DATA_DIR   ?= data
RUN_DIR    ?= runs/default
FLAGFILE   ?= compact
PER_CLASS  ?= 6450
# More flags for the command, e.g. FLAGS="--allow_fewer --seed=3".
FLAGS      ?=

BIN := $(VENV)/bin
RUN := $(BIN)/python -m

.DEFAULT_GOAL := help
.PHONY: help setup tfrecords train demo study test test-slow test-all test-wheel coverage lint fuzz bench tensorboard docs lock clean

help:  ## List the targets and variables
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo
	@echo 'Commands, once `source $(VENV)/bin/activate` has been said; each has --help:'
	@sed -n 's|^    "\([a-z]*\)": "\(.*\)",$$|\1 \2|p' trainer/console.py | tr . / \
	  | while read -r name module; do \
	    printf '  quickdraw %-10s %s\n' "$$name" "$$(sed -n '1s/^"""//p' "$$module.py")"; done
	@echo
	@echo 'Variables, with their defaults:'
	@echo '  SOURCE=$(SOURCE)       where drawings come from: download, image_folder, npz, numpy_bitmap,'
	@echo '                        strokes, synthetic, tfds'
	@echo '  SOURCE_DIR=$(SOURCE_DIR)             folder of the source'"'"'s files'
	@echo '  DATA_DIR=$(DATA_DIR)           the data set'
	@echo '  PER_CLASS=$(PER_CLASS)          drawings of each class'
	@echo '  RUN_DIR=$(RUN_DIR)    checkpoints, curves and results of a run'
	@echo '  FLAGFILE=$(FLAGFILE)   the trainer'"'"'s flags'
	@echo '  FLAGS=$(FLAGS)                  more flags for the converter or the trainer'
	@echo '  LOCK=$(LOCK)  what to install: requirements-gpu.lock for a GPU'

setup: $(VENV)/.installed  ## Make .venv from the lock file; does nothing when up to date

# uv is many times faster than pip, which only installs uv. The project itself is installed where it
# is, so that `quickdraw` works in any folder and every edit counts at once.
$(VENV)/.installed: $(LOCK) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r $(LOCK)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

tfrecords: setup  ## Convert drawings to the data set in DATA_DIR
	$(RUN) quickdraw_tfrecords --source=$(SOURCE) $(if $(SOURCE_DIR),--source_dir='$(SOURCE_DIR)') \
	  --data_dir='$(DATA_DIR)' --per_class=$(PER_CLASS) $(FLAGS)

train: setup  ## Train on DATA_DIR with the flags of FLAGFILE, into RUN_DIR
	$(RUN) trainer --flagfile='$(FLAGFILE)' --data_dir='$(DATA_DIR)' --run_dir='$(RUN_DIR)' $(FLAGS)

demo: setup  ## Everything in minutes: synthetic drawings, conversion, training, test
	$(RUN) quickdraw_tfrecords --source=synthetic --per_class=300 --data_dir=data/demo
	$(RUN) trainer --flagfile=demo --data_dir=data/demo --run_dir=runs/demo
	@echo
	@echo 'The drawings were synthetic. Results are in runs/demo: report/index.html, history.csv,'
	@echo 'checkpoints/, and curves in tensorboard/ (make tensorboard). Next: make help'

study: setup  ## The study of 2019 on its own data: 1.7 GB of downloads, then hours or, on a GPU, minutes
	$(RUN) tools.study $(FLAGS)

test: setup  ## Set up and run the quick tests, in about four minutes
	$(RUN) pytest -n auto -m 'not slow'
	@echo 'These were the quick tests. All of them: make test-all'

test-slow: setup  ## Run the tests that make test leaves out
	$(RUN) pytest -n auto -m slow

test-all: test test-slow  ## Run all tests, as CI does

coverage: setup  ## Run all tests and show what they do not reach; also in build/coverage/html
	$(RUN) pytest -n auto --cov --cov-report=term --cov-report=html

test-wheel: setup  ## Build the wheel and use it from an empty folder; VENV and PYTHON choose which
	$(RUN) pytest -n 0 tests/test_wheel.py

lint: setup  ## Check style, formatting and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

fuzz: setup  ## Try hostile input on every parser, for ten minutes; FLAGS="--secs=60" for another time
	$(RUN) tools.fuzz --secs=600 $(FLAGS)

bench: setup  ## Compare input pipelines on 200,000 synthetic drawings
	$(RUN) quickdraw_tfrecords --source=synthetic --per_class=806 --data_dir=data/bench
	$(RUN) tools.benchmark_input --data_dir=data/bench --png=data/bench/input.png

docs: setup  ## Build the site of README and docs/ into build/site/html, and check its links
	$(RUN) tools.build_site

tensorboard: setup  ## Show the curves of all runs
	$(BIN)/tensorboard --logdir=runs

lock: setup  ## Resolve pyproject.toml anew into the lock files
	$(BIN)/uv pip compile pyproject.toml --universal --extra=dev --extra=docs --generate-hashes \
	  --no-emit-index-url --no-header --quiet --output-file=requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --extra=dev --extra=docs --extra=gpu --generate-hashes \
	  --no-emit-index-url --no-header --quiet --output-file=requirements-gpu.lock

clean:  ## Remove the environment and caches; data and runs stay
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis *.egg-info
