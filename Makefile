# make setup   .venv with everything that development needs
# make demo    the main job on synthetic conversations: Parquet, a picture per axis, first steps of training, in demo/
# make test    formatting, lint, types, import order, tests

# Threads of small models on busy cores are ten times slower.
demo test: export OMP_NUM_THREADS = 1

UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := .venv/bin
# A proxy has its certificate in the store of the system.
export UV_SYSTEM_CERTS ?= true

.PHONY: setup demo test bench browser

setup: $(UV)
	$(UV) sync --locked --all-extras
	@echo "Ready: source .venv/bin/activate"

demo: $(UV)
	$(UV) sync --locked --inexact --no-dev --extra synthetic --extra train
	$(RUN)/segkit extract synthetic demo/conversations -o demo/dataset --set corpus.hours=0.5
	for axis in pause turn_taking backchannel interruption; do \
		$(RUN)/segkit inspect demo/dataset $$axis --png demo/$$axis.png || exit 1; done
	$(RUN)/segkit stats demo/dataset
	rm -rf demo/run
	$(RUN)/segkit align demo/dataset demo/run --set steps=4 --set groups=4 --set evaluation.every=4 \
		--set evaluation.samples_every=4
	@echo "Done: conversations with their truth in demo/conversations, dataset in demo/dataset, pictures in demo/*.png,"
	@echo "what the model nano said in four steps of training in demo/run/samples (user left, model right)"

test: setup browser
	$(RUN)/ruff format --check
	$(RUN)/ruff check
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/pytest -n auto --dist worksteal
	@echo "Done: everything passes; results above, nothing else was written"

# For the tests of the page. Debian's root gets it here, as in a container; without Chromium these tests skip.
browser:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v chromium >/dev/null; then \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium) \
			>/dev/null || echo "No Chromium: the tests of the page in a browser will skip."; fi

bench: setup
	for script in benchmarks/*.py; do $(RUN)/python $$script || exit 1; done

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv
