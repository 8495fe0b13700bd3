# Two commands a newcomer needs: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1

.PHONY: demo test check gpu-check fix docs install lock clean

install: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25,<26.2"
	$(BIN)/pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/stillhouse run dmd2

test: install
	$(BIN)/pytest --numprocesses 2 --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/dependencies.py

# Every gradient method in bfloat16 on a GPU, beside float32 on the CPU; exit code 2 where there is no GPU
gpu-check: install
	$(BIN)/python benchmarks/gpu_check.py

# The documents as a site in build/docs; any warning fails
docs: install
	$(BIN)/python docs/draw_architecture.py
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

fix: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pin the newest versions that pyproject.toml allows
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --upgrade "pip>=25,<26.2"
	build/lock/bin/pip install --quiet "torch==2.13.0"
	build/lock/bin/pip install --quiet --editable ".[dev]"
	( echo "# The whole tree, pinned; written by: make lock"; \
	  build/lock/bin/pip freeze --exclude-editable | sed 's/+cpu//' ) > constraints.txt

clean:
	rm -rf .venv build dist
