# `make help` lists the targets. Everything runs in .venv, which is made on first use.
.DEFAULT_GOAL := help
.NOTPARALLEL:

include recipes/variables.mk
$(call check,$(or $(MAKECMDGOALS),help))
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

# The interpreter for .venv: PYTHON, or the first of these that is supported.
FITS := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(or $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done),python3)

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  ARGS="encoder.hidden=320"  Hydra overrides, for every corpus; the run gets a folder of its own'
	@echo '  SEEDS="1 2 3"              one run for each seed         (default 1)'
	@echo '  GPUS=2                     training in two processes, each with a GPU or its share of the cores'
	@echo '  PYTHON=python3.12          the interpreter for .venv     (3.11, 3.12 or 3.13)'
	@echo '  make -n TARGET             print the commands without running them'

demo: $(READY) ## Generate synthetic speech, train on it, print the PER: the whole pipeline in minutes
	@$(MAKE) --no-print-directory -f recipes/demo/Makefile
	@echo 'To use the program: source $(VENV)/bin/activate, then asr --help; or $(VENV)/bin/asr --help'

librispeech: $(READY) ## The same on LibriSpeech: downloads 5.3 h and more, or ROOT=/path LEXICON=/path/to/cmudict.dict
	@$(MAKE) --no-print-directory -f recipes/librispeech/Makefile

folder: require-speech $(READY) ## The same on any audio with .phn, TextGrid or .lab, Kaldi or Lhotse: make folder ROOT=/path, for words LEXICON=
	@$(MAKE) --no-print-directory -f recipes/folder/Makefile

timit-sample: $(READY) ## The same on NLTK's sample of TIMIT, which it downloads (CC BY-NC-SA)
	@$(MAKE) --no-print-directory -f recipes/timit/Makefile ROOT=data/timit DOWNLOAD=data/timit

timit: require-root $(READY) ## The same on TIMIT, or on NLTK's sample of it: make timit ROOT=/path/to/TIMIT
	@$(MAKE) --no-print-directory -f recipes/timit/$(if $(FOLDS),left-out.mk,Makefile)

graves2013: require-timit $(READY) ## The networks of Graves et al. (2013), in a table beside the paper's: make graves2013 ROOT=/path/to/TIMIT
	@$(MAKE) --no-print-directory -f recipes/graves2013/Makefile

peers: require-corpus $(READY) ## Compare the packaged model with hama, moonshine and pocketsphinx on the same files: make peers ROOT=/path/to/corpus
	@$(MAKE) --no-print-directory -f recipes/peers/Makefile

methods: require-timit $(READY) ## HMMs, RNN, GRU and LSTM with every criterion and search, in one table: make methods ROOT=/path/to/timit-sample
	@$(MAKE) --no-print-directory -f recipes/methods/Makefile

explain: $(READY) ## One page on what an LSTM is: trains three small networks and shows one from inside
	@$(MAKE) --no-print-directory -f recipes/explain/Makefile

page: $(READY) ## A page in dist/ that recognises phones in the browser, without a server of its own
	@$(MAKE) --no-print-directory -f recipes/browser/Makefile

docs: $(READY) build/docs/explain.html ## The manual as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --config-file recipes/docs/mkdocs.yml
	@$(PY) recipes/docs/links.py build/site
	@echo 'To look at: build/site/index.html; with its search: $(PY) -m http.server --directory build/site'

build/docs/explain.html: recipes/docs/explained.py $(wildcard asr/explanation/*.py asr/templates/explanation/*) | $(READY)
	$(PY) recipes/docs/explained.py $@

docs-commands: $(READY) ## Run every command of the guide in a scratch folder, with a log: build/docs/commands.txt
	$(PY) tests/documented.py build/docs/commands --guide --log build/docs/commands.txt

test: $(READY) ## All tests
	$(PY) -m pytest

QUICK := $(patsubst %,tests/test_%.py,floors main_path knobs records phones lexicon textgrid timit \
	features_oracles scoring scoring_alignment packaging)

test-quick: $(READY) ## Tests of structure, files, features and scores: less than a minute
	$(PY) -m pytest $(QUICK)

# Tests of what depends on the instruction set, and the variables with which torch, oneDNN, MKL,
# OpenBLAS and numba use less of it.
NUMERIC := $(patsubst %,tests/test_%.py,lstm features features_oracles model search train)
ifeq ($(shell uname -m),x86_64)
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	OPENBLAS_CORETYPE=Haswell NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=
SSE := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
	OPENBLAS_CORETYPE=Nehalem NUMBA_CPU_NAME=generic
endif

test-processors: $(READY) ## The numeric tests as on a processor with AVX2, and some as on one without AVX
	$(AVX2) $(PY) -m pytest $(NUMERIC)
	$(SSE) $(PY) -m pytest tests/test_lstm.py

test-light: $(READY) ## The wheel in environments of its own, without torch: it transcribes, aligns, assesses, scores
	$(PY) tests/light.py
	$(PY) tests/light.py --lowest

lint: $(READY) ## ruff: style and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(READY) ## mypy --strict
	$(PY) -m mypy

check: lint types test test-processors test-light ## What CI runs, in the same order

format: $(READY) ## Fix style and format with ruff
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(READY) ## Measure speed on this machine, beside other tools
	@$(PY) -c 'import torch; print("instruction set:", torch.backends.cpu.get_cpu_capability())'
	@for script in recipes/bench/*.py; do echo "== $$script"; $(PY) $$script || exit 1; done

clean: ## Remove runs, .venv, the site, and of data/ what was generated or downloaded there
	rm -rf exp build/docs build/site data/synthetic data/cache $(VENV)
	@test ! -f data/.downloaded || { cd data && while IFS= read -r name; do rm -rf "$$name"; done < .downloaded && rm .downloaded; }
	@test ! -d data || { find data/ -mindepth 1 -depth -type d -empty -delete; rmdir data 2>/dev/null; } || \
		{ echo "Kept, as neither generated nor downloaded by make:"; find data/ -mindepth 1 -maxdepth 2 | sort; }

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; set the interpreter: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "error: $$($(PYTHON) -V 2>&1) ($(PYTHON)), expected 3.11, 3.12 or 3.13; set the interpreter: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "error: $(PYTHON) cannot make virtual environments; on Debian install python3-venv, or set another: make PYTHON=…" >&2; exit 1; }
	@echo "Setting up $(VENV): about 5 GB, most of it torch with CUDA, in 2 to 7 minutes."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check --editable ".[dev]"
	@touch $@

require-root:
	@$(if $(value ROOT),:,false) || { echo "error: ROOT is not set, expected the folder of the corpus: make timit ROOT=/path/to/TIMIT" >&2; exit 2; }

require-timit:
	@$(if $(value ROOT)$(value CORPUS),:,false) || { echo "error: ROOT is not set, expected the folder of the corpus: make graves2013 ROOT=/path/to/TIMIT, or CORPUS=corpus=synthetic; the same for make methods" >&2; exit 2; }

require-corpus:
	@$(if $(value ROOT),:,false) || { echo "error: ROOT is not set, expected the folder of the corpus: make peers ROOT=/path/to/TIMIT or /path/to/LibriSpeech" >&2; exit 2; }

require-speech:
	@$(if $(value ROOT),:,false) || { echo "error: ROOT is not set, expected the folder of the speech: make folder ROOT=/path" >&2; exit 2; }

.PHONY: docs docs-commands help demo librispeech folder timit-sample timit graves2013 methods peers explain page test test-quick test-processors test-light lint types check format bench clean require-root require-timit require-corpus require-speech
