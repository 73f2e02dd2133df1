# Everything is installed into .venv. Files in it named .made, .serve and .all say what has been done already.
PORT ?= 5000
STATE ?= runs/node
TO ?= ORTHANC@localhost:4242
# Tried in this order; PYTHON=... is taken instead. The range is the one in pyproject.toml.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FOUND := import sys, importlib.util as u; print(sys.version.split()[0] + ("" if u.find_spec("ensurepip") else " without venv"))
python := .venv/bin/python
pip := $(python) -m pip --disable-pip-version-check -q

export PORT

.DEFAULT_GOAL := help
.PHONY: help run node setup test lint requirements train notebook benchmark scale reliability dependencies
.PHONY: container hospital test-container recipes clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# glibc gives back what large films took: 20 of 32 megapixels leave 0.1 GB in a worker, without this 0.8 GB.
run: .venv/.serve ## install what serving needs and serve the page (PORT=5000)
	@MALLOC_TRIM_THRESHOLD_=$${MALLOC_TRIM_THRESHOLD_:-1048576} exec $(python) -m gunicorn

node: .venv/.node ## install what the DICOM node needs and start it (TO=AE@HOST:PORT, ARGS= for more options)
	exec .venv/bin/pneumo node --state $(STATE) --to $(TO) $(ARGS)

setup: .venv/.all ## install everything: training, notebook, tests

# One thread in each of scikit-learn's loops: those of two files at a time would wait for each other's.
test: setup lint ## check the code and run all tests, two files at a time (ARGS= for pytest)
	OMP_NUM_THREADS=1 $(python) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.all ## check the code's style and the direction of its imports
	$(python) -m ruff check .
	.venv/bin/lint-imports

requirements: .venv/.made ## pin the newest fitting versions again (ARGS=--upgrade for all of them)
	@$(pip) install uv
	$(uv) --all-extras -o requirements.txt $(ARGS)
	$(uv) -c requirements.txt -o requirements-serve.txt
	$(uv) -c requirements.txt --extra node -o requirements-node.txt
	$(uv) -c requirements.txt --extra cloud --extra parquet -o requirements-archive.txt
uv = .venv/bin/uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header

train: setup ## train the shipped model: its base in four runs, then the top
	.venv/bin/pneumo pretrain --run runs/scratch
	.venv/bin/pneumo pretrain --run runs/continued --start runs/scratch/base.npz
	.venv/bin/pneumo pretrain --run runs/matched --start runs/continued/base.npz --epochs 8 --rate 6e-4 --acquisition 0.75 --matched 0.5
	.venv/bin/pneumo pretrain --start runs/matched/base.npz --epochs 12 --rate 6e-4 --acquisition 0.75 --augmentation "films, exchanged"
	.venv/bin/pneumo train

recipes: setup ## train every recipe (hours; ARGS= for all of them) and compare them in reports/comparison.md
	set -e; for recipe in $$(.venv/bin/pneumo recipes | cut -d' ' -f1); do \
	  .venv/bin/pneumo train --recipe $$recipe $(ARGS); \
	done
	.venv/bin/pneumo compare

notebook: setup ## run notebooks/train_vgg16.ipynb and keep its outputs
	.venv/bin/pneumo notebook

benchmark: setup ## measure speed beside the naive server and the bare model, into benchmarks/ and the README
	$(python) -m benchmarks.serving
	.venv/bin/pneumo document

scale: setup ## measure what a million films cost, and simulate the fleet, into reports/scale.md (PRICE= of a core hour)
	$(python) -m benchmarks.scale --price $(or $(PRICE),0.05)

dependencies: .venv/.all ## write the bill of materials of what serves, and look for known vulnerabilities in it
	$(python) .ci/dependencies.py

reliability: setup ## try to break the service, and write reports/reliability.md (half an hour; ARGS= for less)
	$(python) -m tests.reliability $(ARGS)

hospital: setup ## kill the node between dcmtk and Orthanc, and write reports/hospital.md (ARGS= for less)
	$(python) -m benchmarks.hospital $(ARGS)

container: ## build the image "pneumo" with docker, or with buildah where no docker answers
	bash tests/container/container.sh build

test-container: ## build the image, start it, send it a film
	bash tests/container/container.sh test

clean: ## remove .venv and caches; data, runs and models stay
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# A .venv that works is kept. A name on the PATH may be a shim that fails when called, so each is asked to run.
.venv/.made:
	@if ! $(python) -c 'import pip; $(FITS)' 2>/dev/null; then \
	  for python in $(PYTHONS); do \
	    if "$$python" -c '$(FITS)' 2>/dev/null; then chosen=$$python; break; fi; \
	    found="$$found $$python: $$("$$python" -c '$(FOUND)' 2>/dev/null || echo none)."; \
	  done; \
	  if [ -z "$$chosen" ]; then \
	    echo "expected Python 3.11 to 3.13 with venv (Debian: apt install python3-venv), found$$found" \
	      "Name one with make PYTHON=..." >&2; exit 1; \
	  fi; \
	  echo "making .venv with $$chosen"; \
	  "$$chosen" -m venv --clear .venv || exit 1; \
	fi
	@touch $@

.venv/.serve: .venv/.made requirements-serve.txt pyproject.toml
	@echo "installing requirements-serve.txt"
	@$(pip) install --require-hashes -r requirements-serve.txt
	@$(pip) install --no-deps -e .
	@touch $@

.venv/.node: .venv/.serve requirements-node.txt
	@echo "installing requirements-node.txt"
	@$(pip) install --require-hashes -r requirements-node.txt
	@touch $@

# imgaug asks for opencv-python, which needs the system's libGL; the headless build is the same without windows.
.venv/.all: .venv/.serve requirements.txt
	@echo "installing requirements.txt (TensorFlow is large: some minutes)"
	@$(pip) install --require-hashes -r requirements.txt
	@if ! $(python) -c 'import cv2' 2>/dev/null; then \
	  version=$$($(python) -c 'import importlib.metadata as m; print(m.version("opencv-python"))') && \
	  echo "import cv2 fails here: opencv-python $$version is replaced by opencv-python-headless" && \
	  $(pip) uninstall -y opencv-python && \
	  $(pip) install --no-deps --force-reinstall "opencv-python-headless==$$version" && \
	  $(python) -c 'import cv2'; \
	fi
	@touch $@
