.DEFAULT_GOAL := help
.PHONY: help demo handoff engines test test-all test-clients test-horovod drills docs \
	lint format clean

PYTHON_FILES := docs ec_estimator examples tests setup.py
PYTEST_ARGS ?=
# Tests that share something dear have one worker; all others go where there is room.
PYTEST := .venv/bin/python -m pytest -n 2 --dist loadgroup

# Less of TensorFlow's C++ log, and hash seeds that differ from run to run, as users'
# do: a result that depends on the order of a set should fail here first.
export TF_CPP_MIN_LOG_LEVEL = 2
unexport PYTHONHASHSEED
# Each of the many processes that tests start would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/.installed ## Train, compress and report on a small data set
	.venv/bin/python -m examples.digits

handoff: .venv/.installed engines ## Prune, quantize and serve it in ONNX Runtime
	rm -rf demo_handoff
	.venv/bin/python -m examples.digits_handoff

engines: .venv-engines/.installed ## Install ONNX Runtime, OpenVINO and TensorRT-RTX

test: lint engines ## Lint, then run all tests but the slow; PYTEST_ARGS="-k name" picks some
	$(PYTEST) -m "not slow" $(PYTEST_ARGS) tests

test-all: lint engines ## Lint, then run every test, property tests on many new examples
	$(PYTEST) --hypothesis-profile=free $(PYTEST_ARGS) tests

test-clients: .venv-clients/.installed ## Compress models of other packages from PyPI
	.venv-clients/bin/python -m pytest $(PYTEST_ARGS) tests/clients

test-horovod: .venv-horovod/.installed ## Compile Horovod, and compress on two ranks
	.venv-horovod/bin/python -m pytest $(PYTEST_ARGS) tests/horovod

drills: .venv/.installed ## Kill and restart tasks of 65 trainings; goes on where it was
	.venv/bin/python -m tests.drills --results=demo_output/drills.jsonl

docs: .venv/.installed ## Write settings.md, api.md and tables of measurements in docs/
	.venv/bin/python -m docs.generate

lint: .venv/.installed ## Check layout and style
	.venv/bin/black --check --quiet $(PYTHON_FILES) || \
		{ echo "black would change files: run 'make format'" >&2; exit 1; }
	.venv/bin/ruff check $(PYTHON_FILES)

format: .venv/.installed ## Rewrite the code as lint wants it
	.venv/bin/black $(PYTHON_FILES)
	.venv/bin/ruff check --fix $(PYTHON_FILES)

clean: ## Remove the environment and all that was generated
	rm -rf .venv .venv-engines .venv-clients .venv-horovod build dist *.egg-info
	rm -rf .pytest_cache .hypothesis .ruff_cache demo_output demo_handoff runs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so that an installation that broke off is taken up again.
# TensorFlow 1.15's wheels need pip 19 or later; 24.0 is the last for Python 3.7.
.venv/.installed: setup.py pyproject.toml | .venv/bin/pip
	.venv/bin/python -m pip install --upgrade 'pip>=20,<24.1'
	.venv/bin/python -m pip install --editable '.[dev]'
	touch $@

.venv/bin/pip:
	python=$$(.ci/python 3.7) && "$$python" -m venv --clear .venv

# No current engine has a wheel for Python 3.7; these have all for 3.11 to 3.13. The list
# is complete, so --no-deps: it leaves out openvino-telemetry, which phones home.
.venv-engines/.installed: requirements-engines.txt | .venv-engines/bin/pip
	.venv-engines/bin/python -m pip install --no-deps --requirement $<
	touch $@

.venv-engines/bin/pip:
	python=$$(.ci/python 3.13 3.12 3.11) && "$$python" -m venv --clear .venv-engines

# Packages of others stay out of .venv: what they bring is not what this package is
# tested with.
.venv-clients/.installed: tests/clients/requirements.txt setup.py | .venv-clients/bin/pip
	.venv-clients/bin/python -m pip install --upgrade 'pip>=20,<24.1'
	.venv-clients/bin/python -m pip install --editable . --requirement $<
	touch $@

.venv-clients/bin/pip:
	python=$$(.ci/python 3.7) && "$$python" -m venv --clear .venv-clients

# Horovod is compiled against the TensorFlow that is there, so without build isolation, and
# with what its setup.py asks for there already. It takes some ten minutes of one core. Its
# Gloo is of 2020: newer standard libraries don't include what it forgot to, and newer
# kernel headers end a struct, which it puts into another, in a flexible array.
.venv-horovod/.installed: tests/horovod/requirements.txt setup.py | .venv-horovod/bin/pip
	.venv-horovod/bin/python -m pip install --upgrade 'pip>=20,<24.1' 'setuptools<68' wheel
	.venv-horovod/bin/python -m pip install --editable '.[demo]' cloudpickle psutil pyyaml
	mkdir -p .venv-horovod/include/linux
	sed 's/link_mode_masks\[\]/link_mode_masks[0]/' /usr/include/linux/ethtool.h \
		>.venv-horovod/include/linux/ethtool.h
	PATH="$$PWD/.venv-horovod/bin:$$PATH" \
	CPLUS_INCLUDE_PATH="$$PWD/.venv-horovod/include" \
	CXXFLAGS="-include array -include cstdint -include limits -include stdexcept" \
	HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
	HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 .venv-horovod/bin/python -m pip install \
		--no-build-isolation --requirement $<
	touch $@

.venv-horovod/bin/pip:
	python=$$(.ci/python 3.7) && "$$python" -m venv --clear .venv-horovod
