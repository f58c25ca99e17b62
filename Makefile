# What people type and what CI runs. Needs Python 3.10 to 3.13, make and a package index; everything goes to .venv/.
CONFIG ?= serve_config.yaml
PORT ?=
HOST ?=
PYTHON ?= $(shell for v in 3.12 3.11 3.13 3.10; do command -v python$$v >/dev/null && python$$v -c 'import venv, ensurepip' 2>/dev/null && { echo python$$v; exit; }; done; echo python3)
# TensorFlow brings CUDA by itself where there is an NVIDIA driver to use it.
GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu)
PIP = .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt

# Without bytecode each of pytest's workers, and each process of each cluster, compiles every file anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test quick lint bench faults hostile scaling constraints clean
.DEFAULT_GOAL := serve

serve: .venv/.serve
	@exec .venv/bin/solo serve $(CONFIG) $(if $(PORT),--port $(PORT)) $(if $(HOST),--host $(HOST))

# Everything, by two workers. TESTS="…" takes pytest's arguments, e.g. TESTS="tests/http -n0".
test: .venv/.dev
	.venv/bin/python -m pytest -n 2 --dist loadgroup $(TESTS)

# What starts no Ray, but for real architectures and whole runs of `solo plan` (marked slow). A tenth of it waits.
quick: .venv/.dev
	.venv/bin/python -m pytest -n 3 --dist loadgroup -m "not serve and not slow" $(TESTS)

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .venv/.dev
	.venv/bin/python -m bench $(ROWS)

faults: .venv/.dev
	.venv/bin/python -m tests.faults

hostile: .venv/.dev
	.venv/bin/python -m tests.hostile --out bench/results/hostile.json

# Autoscaling under a load curve, then several nodes in network namespaces (which needs root).
scaling: .venv/.dev
	.venv/bin/python -m tests.scaling.autoscale --results bench/results/autoscale.json
	.venv/bin/python -m tests.scaling.nodes --results bench/results/nodes.json

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) else f"keras-solo needs Python 3.10 to 3.13, but $(PYTHON) is {v[0]}.{v[1]}: set PYTHON=…")'
	@echo "creating .venv with $$($(PYTHON) --version)"
	$(PYTHON) -m venv .venv

.venv/.serve: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing keras-solo and what it needs (once, a few minutes)"
	$(PIP) -e '.$(if $(GPU),[$(GPU)])'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing keras-solo and its development tools (once, a few minutes)"
	$(PIP) -e '.[dev,$(or $(GPU),onnx)]'
	@touch $@ .venv/.serve

# Pins everything for every supported Python; needs uv.
constraints:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 \
	  --no-emit-index-url --no-header --no-annotate -o constraints.txt

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
