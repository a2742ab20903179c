# Two commands: `make repro` runs the study, `make test` the tests. `make help` lists the others.
SHELL := /bin/sh
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev repro crossval test test-slow bench lint format lock docs

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo "  DATA=/path/to/photographs with repro: use your photographs, with profiles/recommended.yaml or PROFILE=NAME"

setup: ## make .venv from requirements.lock
	@sh tools/setup.sh

setup-dev: ## add the tools of tests and style, from requirements-dev.lock
	@sh tools/setup.sh dev

repro: setup ## run everything that changed, and show the scores
ifneq ($(PROFILE)$(DATA),)
	@glaucoma profile $(or $(PROFILE),recommended) $(if $(DATA),--data "$(DATA)")
endif
	@glaucoma check
	@dvc repro
	@glaucoma results

crossval: setup ## as repro, with JOBS folds side by side (default 2; each needs the memory of one process)
	@glaucoma check
	@glaucoma crossval --jobs $(or $(JOBS),2)
	@glaucoma results

test: setup-dev ## run the tests (8 minutes at most)
	@python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup-dev ## run the slow tests, those of whole workflows among them (ARGS="-m workflow": those alone)
	@python -m pytest -m slow --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: setup ## run the benchmarks, into benchmarks/results.md (half an hour; ARGS="--only stage1")
	@python benchmarks/run.py $(ARGS)

lint: setup-dev ## check style and types
	@ruff check .
	@ruff format --check .
	@mypy

format: setup-dev ## fix style
	@ruff check --fix .
	@ruff format .

docs: setup ## update the generated parts of README.md and docs/
	@python tools/readme.py --write

lock: setup-dev ## update the locks from pyproject.toml (needs internet)
	@uv pip compile pyproject.toml --extra dicom --extra onnx --extra serve --universal --python-version 3.10 --generate-hashes --no-annotate \
		--no-header --no-emit-index-url --no-emit-find-links --upgrade --quiet --output-file requirements.lock
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 --generate-hashes --no-annotate \
		--no-header --no-emit-index-url --no-emit-find-links --constraint requirements.lock --upgrade --quiet \
		| awk 'NR == FNR { if (/^[^ ]/) seen[$$1]; next } /^[^ ]/ { on = !($$1 in seen) } on' requirements.lock - > requirements-dev.lock
	@uv pip compile pyproject.toml --extra gpu --universal --python-version 3.10 --generate-hashes --no-annotate \
		--no-header --no-emit-index-url --no-emit-find-links --constraint requirements.lock --quiet \
		| awk '/^[^ ]/ { on = /^nvidia-/ } on' > requirements-gpu.lock
	@uv pip compile --group container --universal --python-version 3.10 --generate-hashes --no-annotate \
		--no-header --no-emit-index-url --no-emit-find-links --constraint requirements.lock --quiet \
		--output-file requirements-serve.lock
