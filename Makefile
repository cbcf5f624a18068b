# Each target does all of its own set-up in .venv; Python 3.10–3.12 is all it needs.
PYTHON := .venv/bin/python
RUN := $(PYTHON) -m monai.bundle run
DEMO := output/demo
TRAIN := 'configs/train.json'
METHOD := 'configs/methods/firm.json'
PROFILE := 'configs/profiles/demo.json'
PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --dist worksteal

# Threads that spin while they wait slow down everything beside a busy core.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo deploy label hospital slurm test test-slow notebooks site lint pretrained bench clean

setup: .venv/ready  ## the installation alone

demo: .venv/ready $(DEMO)/data/datalist.json $(DEMO)/scan/datalist.json  ## phantom pairs, train, stain, measure, report; some 12 minutes on two cores
	$(RUN) training --config_file "[$(TRAIN),$(METHOD),$(PROFILE)]" --dataset_dir $(DEMO)/data \
		--output_dir $(DEMO)/run --batch_size 4 --patches_per_pair 36 --epochs 26 --fold 0 --precision half --resume true
	$(RUN) inference --config_file $(DEMO)/run/bundle/configs/inference.json --bundle_root $(DEMO)/run/bundle \
		--input $(DEMO)/data/ct --output_dir $(DEMO)/stained
	$(RUN) evaluation --config_file "[$(TRAIN),'configs/evaluate.json',$(METHOD),$(PROFILE)]" --dataset_dir $(DEMO)/data \
		--output_dir $(DEMO)/run --fold 0 --eval_patch 128
	$(RUN) inference --config_file "['$(DEMO)/run/bundle/configs/inference.json','$(DEMO)/run/bundle/configs/volume.json']" \
		--bundle_root $(DEMO)/run/bundle --input $(DEMO)/scan/specimens/01/ct.nii.gz --output_dir $(DEMO)/volume \
		--speed fast --hull true
	@echo "What it did, and how well: open $(DEMO)/run/report.html in a browser"
	@echo "A stained volume, with a slider along each axis: $(DEMO)/volume/report.html"

$(DEMO)/data/datalist.json: | .venv/ready
	$(PYTHON) -m scripts.phantom --output $(DEMO)/data --pairs 20 --volumes false

$(DEMO)/scan/datalist.json: | .venv/ready  # a specimen that is in no pair, to be stained whole
	$(PYTHON) -m scripts.phantom --output $(DEMO)/scan --pairs 1 --seed 1

deploy: .venv-deploy/ready  ## MONAI Deploy App SDK, in an environment of its own beside .venv
label: .venv-label/ready  ## MONAI Label, likewise

hospital: .venv/ready  ## all that tests/hospital tests against; as root Debian's Orthanc, dcmtk and dicom3tools too
	@tests/hospital/setup.sh

slurm:  ## as root Debian's SLURM, which tests start for themselves
	@tests/helpers/slurm_setup.sh

test: .venv/ready hospital slurm  ## what CI and a newcomer run
	$(PYTEST) -m "not slow"

test-slow: .venv/ready hospital slurm  ## the rest, which CI runs too
	$(PYTEST) -m slow

notebooks: .venv/ready  ## run docs/notebooks, as CI does
	$(PYTHON) -m pytest --nbmake --nbmake-timeout=600 -n 0 docs/notebooks

site: .venv/ready  ## docs/ as a website, in output/site
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

lint: .venv/ready
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

# The model in bundle/pretrained; an hour on one core.
pretrained: .venv/ready
	$(PYTHON) -m scripts.phantom --output output/pretrained/data --pairs 40 --seed 2026 --volumes false
	$(RUN) training --config_file "[$(TRAIN),$(METHOD),$(PROFILE)]" --dataset_dir output/pretrained/data \
		--output_dir output/pretrained/run --width 12 --blocks 4 --batch_size 4 --patches_per_pair 36 --epochs 24 --fold 0 \
		--precision half --resume true
	$(PYTHON) -m scripts.bench.pretrained --run output/pretrained/run

bench: .venv/ready  ## what docs/performance.md quotes
	$(PYTHON) -m scripts.bench.patches
	$(PYTHON) -m scripts.bench.loading
	$(PYTHON) -m scripts.bench.training
	$(PYTHON) -m scripts.bench.memory
	$(PYTHON) -m scripts.bench.step
	$(PYTHON) -m scripts.bench.step --busy 1
	$(PYTHON) -m scripts.bench.generator --bundle $(DEMO)/run/bundle
	$(PYTHON) -m scripts.bench.slide --bundle $(DEMO)/run/bundle
	$(PYTHON) -m scripts.bench.halo
	$(PYTHON) -m scripts.bench.volume memory --bundle $(DEMO)/run/bundle
	$(PYTHON) -m scripts.bench.volume windows --bundle $(DEMO)/run/bundle
	$(PYTHON) -m scripts.bench.roofline
	$(PYTHON) -m scripts.bench.registration_cores

clean:
	rm -rf output .venv .venv-deploy .venv-label

# A shim of that name may be there without the version behind it, so each candidate is run.
.venv/ready: pyproject.toml
	@for python in python3.11 python3.12 python3.10 python3; do \
		if $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
			echo "setting up .venv with $$($$python --version); PyTorch is large, this takes minutes"; \
			$$python -m venv .venv && .venv/bin/pip install --quiet --editable '.[test]' && touch $@ && \
			echo "ready; source .venv/bin/activate to use it yourself" && exit 0; \
			exit 1; \
		fi; \
	done; echo "no Python 3.10, 3.11 or 3.12 found; install one" >&2; exit 1

.venv-%/ready: scripts/%/setup.sh scripts/%/requirements.txt | .venv/ready
	sh scripts/$*/setup.sh .venv-$* && touch $@
