# The commands of this repository. Each one does its own set-up; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

JOBS ?= $(shell nproc)
BUILD := build/release
PYTHON_BIN := .venv/bin/python
PYTEST_ARGS ?=
RANDOM_SECONDS ?= 300
FUZZ_SECONDS ?= 60

# What one build folder compiled, another one finds in the compiler's cache.
export CCACHE_BASEDIR ?= $(CURDIR)
export CCACHE_NOHASHDIR ?= 1

CTEST := ctest --output-on-failure --no-tests=error -j $(JOBS)
# The address space of the sanitizers does not always fit the randomized layout of a kernel. Without
# setarch (a container may forbid it) the tests run as they are.
FIXED_LAYOUT = $(shell setarch -R true 2>/dev/null && echo setarch -R)

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the extension and the daemon into python/mobula
	@tools/setup build test
	@[[ -e $(BUILD)/build.ninja ]] || cmake -S . -B $(BUILD) -G Ninja \
	  -DPython_EXECUTABLE=$(CURDIR)/$(PYTHON_BIN)
	@ninja -C $(BUILD) -j $(JOBS)

.PHONY: demo
demo: build ## Run the tour: serial and parallel, with a table and a picture
	@tools/setup demo
	@$(PYTHON_BIN) -m examples.tour $(DEMO_ARGS)

.PHONY: test
test: build ## Run all tests: C++ (ctest) and Python (pytest)
	@tools/setup demo
	@$(CTEST) --test-dir $(BUILD)
	@$(PYTHON_BIN) -m pytest tests $(PYTEST_ARGS)

.PHONY: check
check: build ## Formatting, clang-tidy, the style ratchet, ruff, mypy, what the extension links
	@tools/setup check
	@find src bench -name '*.cc' -o -name '*.h' | xargs clang-format --dry-run -Werror
	@$(PYTHON_BIN) tools/tidy.py
	@$(PYTHON_BIN) -m ruff check .
	@$(PYTHON_BIN) -m ruff format --check .
	@$(PYTHON_BIN) -m mypy
	@$(PYTHON_BIN) tools/check_extension_links.py python/mobula/_core*.so
	@$(PYTHON_BIN) tools/clang_tidy.py --build $(BUILD) --jobs $(JOBS)

.PHONY: fmt
fmt: ## Reformat C++ and Python
	@tools/setup build check
	@find src bench -name '*.cc' -o -name '*.h' | xargs clang-format -i
	@$(PYTHON_BIN) -m ruff check --fix-only --select I .
	@$(PYTHON_BIN) -m ruff format .

.PHONY: bench
bench: build ## Measure, and compare with the targets and the real Ray (table and JSON)
	@tools/setup bench oracle
	@$(PYTHON_BIN) -m bench $(BENCH_ARGS)

.PHONY: oracle
oracle: build ## Compare with the real Ray: the same programs under both, ORACLE_ARGS="--only wait"
	@tools/setup oracle
	@$(PYTHON_BIN) -m oracle $(ORACLE_ARGS)

.PHONY: libraries
libraries: wheel ## Run libraries that say `import ray` under Ray and Mobula, LIBRARIES_ARGS="--only stumpy"
	@$(PYTHON_BIN) -m libraries $(LIBRARIES_ARGS)

.PHONY: random
random: build ## Run the seeded random tests for RANDOM_SECONDS with fresh seeds
	@$(PYTHON_BIN) tools/random_runs.py --build $(BUILD) --seconds $(RANDOM_SECONDS)

.PHONY: planted-bugs
planted-bugs: build ## Plant mistakes in the actors' state machines and see that the random test finds each
	@$(PYTHON_BIN) tools/planted_bugs.py --build $(BUILD)

.PHONY: fuzz
fuzz: ## Fuzz every decoder for FUZZ_SECONDS (60) each; what is found is left in build/fuzz
	@tools/setup build test fuzz
	@[[ -e build/fuzz/build.ninja ]] || cmake -S . -B build/fuzz -G Ninja \
	  -DCMAKE_CXX_COMPILER=clang++-14 -DMOBULA_BUILD_PYTHON=OFF -DMOBULA_BUILD_TESTS=OFF \
	  -DMOBULA_FUZZ=ON -DMOBULA_SANITIZE=address,undefined
	@ninja -C build/fuzz -j $(JOBS) fuzz_targets
	@$(PYTHON_BIN) tools/fuzz_runs.py --build build/fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

.PHONY: asan
asan: ## Run the C++ tests under the address and undefined-behaviour sanitizers
	@tools/setup build test
	@[[ -e build/asan/build.ninja ]] || cmake -S . -B build/asan -G Ninja \
	  -DMOBULA_BUILD_PYTHON=OFF -DMOBULA_SANITIZE=address,undefined
	@ninja -C build/asan -j $(JOBS)
	@UBSAN_OPTIONS=print_stacktrace=1 $(FIXED_LAYOUT) $(CTEST) --test-dir build/asan

.PHONY: tsan
tsan: ## Run the tests of src/shm and src/process under the thread sanitizer
	@tools/setup build test
	@[[ -e build/tsan/build.ninja ]] || cmake -S . -B build/tsan -G Ninja \
	  -DMOBULA_BUILD_PYTHON=OFF -DMOBULA_SANITIZE=thread
	@ninja -C build/tsan -j $(JOBS) thread_tests
	@$(FIXED_LAYOUT) $(CTEST) --test-dir build/tsan -L 'shm|process' -LE fuzz

.PHONY: wheel
wheel: ## Build the wheels of mobula and of mobula-as-ray into dist/
	@tools/setup build
	@# Named as in the release build: what was compiled there is found in the compiler's cache.
	@CC=cc CXX=c++ $(PYTHON_BIN) -m pip wheel -q --no-deps --no-build-isolation -w dist . ./python/mobula-as-ray

.PHONY: clean
clean: ## Remove what was built; keep .venv and the compiler cache
	rm -rf build dist python/mobula/_core*.so python/mobula/bin
