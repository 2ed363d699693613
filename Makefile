.DEFAULT_GOAL := help
.PHONY: help demo test lint format clean

PYTHON_FILES := ec_estimator examples tests setup.py
PYTEST_ARGS ?=

# Less of TensorFlow's C++ log, and hash seeds that differ from run to run, as users'
# do: a result that depends on the order of a set should fail here first.
export TF_CPP_MIN_LOG_LEVEL = 2
unexport PYTHONHASHSEED

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: .venv/.installed ## Train, compress and report on a small data set
	.venv/bin/python -m examples.digits

test: lint ## Lint, then run the tests; PYTEST_ARGS="-k name" picks some
	.venv/bin/python -m pytest -n 2 $(PYTEST_ARGS) tests

lint: .venv/.installed ## Check layout and style
	.venv/bin/black --check --quiet $(PYTHON_FILES) || \
		{ echo "black would change files: run 'make format'" >&2; exit 1; }
	.venv/bin/ruff check $(PYTHON_FILES)

format: .venv/.installed ## Rewrite the code as lint wants it
	.venv/bin/black $(PYTHON_FILES)
	.venv/bin/ruff check --fix $(PYTHON_FILES)

clean: ## Remove the environment and all that was generated
	rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .ruff_cache demo_output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so that an installation that broke off is taken up again.
# TensorFlow 1.15's wheels need pip 19 or later; 24.0 is the last for Python 3.7.
.venv/.installed: setup.py pyproject.toml | .venv/bin/pip
	.venv/bin/python -m pip install --upgrade 'pip>=20,<24.1'
	.venv/bin/python -m pip install --editable '.[dev]'
	touch $@

.venv/bin/pip:
	python=$$(.ci/python37) && "$$python" -m venv --clear .venv
