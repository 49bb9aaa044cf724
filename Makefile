# The chores of this project. `make` alone lists them; CONTRIBUTING.md explains them.
#
# Needs cargo, make and a C compiler; the demo and the tests need python3 (3.11 to 3.14) as well.
# Everything is made inside this folder: target/, .venv/ and .venvs/.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
# Two targets at once would build, and print, over each other.
.NOTPARALLEL:

PYTHON ?= python3
CARGO ?= cargo
# More arguments, such as: make demo NPROC=4 ARGS="--steps 500"; make test ARGS="plan::"
NPROC ?= 2
# make test-all OLDEST=1 also tests with PyTorch 2.0, 5 GB more
OLDEST ?=
ARGS ?=

NVLAUNCH := target/release/nvlaunch
MAKE_VENV = $(need_python) $(PYTHON) tools/make_venv.py
# Releases of MMEngine that `make test-all` puts before the rest of .venvs/mmengine. Up to 0.7.4 they
# need a yapf from before 0.40.
OLD_MMENGINE := 0.7.0 0.8.5 0.10.1
# What MMEngine needs and .venvs/mmengine has from .venv, which an older PyTorch does not see.
OF_MMENGINE := markdown-it-py==4.3.0 mdurl==0.1.2 packaging==26.3 Pygments==2.21.0 PyYAML==6.0.3 \
	rich==15.0.0
# What `make test-all` skipped, for its last line and for .ci/run.
SKIPPED := target/test-all-skipped

need_cargo := command -v $(CARGO) >/dev/null || { \
	echo "make: $(CARGO) is not on PATH; install Rust from https://rustup.rs" >&2; exit 1; };
need_python := command -v $(PYTHON) >/dev/null || { \
	echo "make: $(PYTHON) is not on PATH; install Python 3.11 or newer, on Debian and Ubuntu" \
	"with: apt install python3 python3-venv" >&2; exit 1; };

.PHONY: help demo build venv test test-all lint reference bench deny clean

help: ## list the targets
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo: build venv ## train a small model on 2 processes with nvlaunch
	@echo '$$ $(NVLAUNCH) --nproc $(NPROC) examples/train.py --checkpoint-dir demo-checkpoints $(ARGS)'
	@PATH="$$PWD/.venv/bin:$$PATH" $(NVLAUNCH) --nproc $(NPROC) examples/train.py \
		--checkpoint-dir demo-checkpoints $(ARGS)
	@rm -rf demo-checkpoints

build: ## build target/release/nvlaunch
	@$(need_cargo) $(CARGO) build --release --locked

venv: ## make .venv with PyTorch (about 6 GB, once)
	@$(MAKE_VENV) .venv requirements.txt --python 3.11-3.14 --size-gb 6 --minutes '2 to 10'
	@$(MAKE_VENV) .venvs/mmengine requirements-mmengine.txt --python 3.11-3.14 \
		--size-gb 1 --minutes '1 or 2' --sees .venv

test: venv ## run the tests (with real PyTorch, under 20 minutes on 2 cores)
	@$(need_cargo) $(CARGO) test --locked --no-fail-fast $(ARGS)

# A Python that these older versions have no wheels for (exit code 3) is a reason to skip them, and
# is said; anything else that goes wrong is an error.
test-all: venv ## run the heavy tests: older PyTorch versions, frameworks (about 17 GB more)
	@$(need_cargo)
	@mkdir -p target; : > $(SKIPPED)
	@$(MAKE_VENV) .venvs/torch-2.8 requirements-torch-2.8.txt --python 3.11-3.13 \
		--size-gb 7 --minutes '2 to 10' || { \
		[[ $$? == 3 ]] && echo 'torch-2.8' >> $(SKIPPED); }
	@$(MAKE_VENV) .venvs/torch-2.4 requirements-torch-2.4.txt --python 3.11-3.12 \
		--size-gb 6 --minutes '2 to 10' || { \
		[[ $$? == 3 ]] && echo 'torch-2.4' >> $(SKIPPED); }
	@$(MAKE_VENV) .venvs/torch-2.1 requirements-torch-2.1.txt --python 3.11-3.11 \
		--size-gb 6 --minutes '2 to 10' || { \
		[[ $$? == 3 ]] && echo 'torch-2.1' >> $(SKIPPED); }
	@if [[ -n "$(OLDEST)" ]]; then \
		$(MAKE_VENV) .venvs/torch-2.0 requirements-torch-2.0.txt --python 3.11-3.11 \
			--size-gb 5 --minutes '2 to 10' || { \
			[[ $$? == 3 ]] && echo 'torch-2.0' >> $(SKIPPED); }; \
	fi
	@$(MAKE_VENV) .venvs/frameworks requirements-frameworks.txt --python 3.11-3.14 \
		--size-gb 1 --minutes '1 to 3' --sees .venv
	@for version in $(OLD_MMENGINE); do \
		dir=.venvs/mmengine-$$version; \
		[[ -f $$dir/complete ]] && continue; \
		echo "making $$dir"; \
		rm -rf $$dir; \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
			--target $$dir mmengine==$$version yapf==0.32.0 $(OF_MMENGINE); \
		touch $$dir/complete; \
	done
	@if [[ -d tests/heavy || -f tests/heavy.rs ]]; then \
		NVLAUNCH_HEAVY=1 $(CARGO) test --locked --test heavy $(ARGS); \
	else \
		echo 'make: there are no heavy tests yet'; \
	fi
	@while read -r what; do \
		echo "make: not tested with $$what: no Python here that it has wheels for"; \
	done < $(SKIPPED)

lint: ## check formatting and lints
	@$(need_cargo) $(CARGO) fmt --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings
	@if command -v ruff >/dev/null; then \
		ruff check . && ruff format --check .; \
	else \
		echo 'make: ruff is not installed: the Python files are not checked (pip install ruff)'; \
	fi

reference: ## write REFERENCE.md and launch-profiles/schema.json anew
	@$(need_cargo) $(CARGO) build --locked
	@target/debug/nvlaunch generate reference > target/REFERENCE.md
	@target/debug/nvlaunch profile schema > target/schema.json
	@mv target/REFERENCE.md REFERENCE.md
	@mv target/schema.json launch-profiles/schema.json

bench: build venv ## measure against torchrun and against the bare floor
	@.venv/bin/python bench/run.py --nvlaunch $(NVLAUNCH) $(ARGS)

deny: ## check advisories, licences and sources of the dependencies
	@if command -v cargo-deny >/dev/null; then \
		$(CARGO) deny --locked check; \
	else \
		echo 'make: cargo-deny is not installed: nothing checked (cargo install cargo-deny)'; \
	fi

clean: ## remove what was built, not the Python environments
	@rm -rf target dist bench/out demo-checkpoints
