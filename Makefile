# Two commands: `make bench` measures, `make test` tests. Each makes its own .venv first, once.
#
# TORCH names the torch to install: TORCH=torch takes the newest (with CUDA, gigabytes), and
# TORCH=torch==2.11.0 the oldest supported. The default is a CPU build, from torch's own index
# where that can be reached.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BENCH ?= --json bench.json --plot bench.png

BIN := $(VENV)/bin
TORCH_DONE := $(VENV)/.$(subst =,-,$(TORCH))
PIP := $(BIN)/pip --quiet --disable-pip-version-check
TORCH_ROOT = $(abspath $(shell $(BIN)/python -c 'import importlib.util as u; \
  print(u.find_spec("torch").submodule_search_locations[0])'))
SOURCES := CMakeLists.txt pyproject.toml $(wildcard cmake/* build_support/*.py) \
           $(shell find csrc -name '*.?pp')

.PHONY: bench test acceptance lint docs cuda sanitize emulated-sanitize mutants verification clean

bench: $(VENV)/.built
	$(BIN)/medkern bench $(BENCH)

test: $(VENV)/.built
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --doctest-modules tests medkern

# What the papers of the systems claim, trained anew: half an hour on a core. The numbers go to
# docs/acceptance.
acceptance: $(VENV)/.built
	$(BIN)/python -m pytest --durations=0 tests/acceptance
	$(BIN)/python docs/make_acceptance.py

lint: $(TORCH_DONE)
	$(PIP) install 'ruff>=0.9' 'mypy>=1.14' 'clang-format>=19' numpy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find csrc -name '*.?pp' -o -name '*.cu*')

docs: $(VENV)/.built
	$(PIP) install 'sphinx>=7.4' 'myst-parser>=4' 'furo>=2024.5'
	$(BIN)/sphinx-build -W --keep-going -b html docs build/docs
	$(BIN)/python docs/check_examples.py README.md docs

# The CUDA kernels for sm_80 and sm_90, with nvcc but without a GPU, held to their budget.
cuda: $(TORCH_DONE)
	$(PIP) install nvidia-cuda-cuobjdump
	command -v nvcc >/dev/null || $(PIP) install 'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' \
	  'nvidia-nvvm==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*'
	MEDKERN_TORCH_ROOT=$(TORCH_ROOT) cmake -S . -B build/cuda \
	  -DMEDKERN_CUDA=ON -DMEDKERN_PYTHON=OFF -DCMAKE_BUILD_TYPE=Release
	cmake --build build/cuda --target native_cuda --parallel $$(nproc)
	$(BIN)/python build_support/gpu_budget.py build/cuda/_native_cuda.so --check

# The emulated CUDA kernels in pytest, under AddressSanitizer and, with clang, ThreadSanitizer.
emulated-sanitize: $(VENV)/.built
	MEDKERN_TORCH_ROOT=$(TORCH_ROOT) PYTHON=$(BIN)/python build_support/emulated_sanitize.sh

# The evidence that docs/gpu.md tabulates, from the tests that give it.
verification: $(VENV)/.built
	$(BIN)/python -m pytest --verification docs/verification.json \
	  tests/test_contract.py tests/test_emulated.py tests/test_gpu.py tests/test_gpu_budget.py \
	  tests/test_triton*.py -k 'instruction_set or emulated or budget or triton or gpu'

# Bugs planted on purpose, which the tests must notice; about half an hour.
mutants: $(VENV)/.built
	$(BIN)/python build_support/mutants.py

# The C++ tests under the address, undefined-behaviour and thread sanitizers; no Python, no torch.
sanitize:
	for preset in asan tsan; do \
	  cmake --preset $$preset && cmake --build --preset $$preset --parallel 2 && ctest --preset $$preset --parallel 2 || exit 1; \
	done

clean:
	rm -rf $(VENV) build

$(TORCH_DONE):
	@echo "== making $(VENV) with $(TORCH)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install --retries 1 --extra-index-url $(TORCH_INDEX) '$(TORCH)'
	@touch $@

$(VENV)/.built: $(TORCH_DONE) $(SOURCES)
	@echo "== compiling and installing medkern (five to eight minutes on two cores)"
	$(PIP) install --editable '.[test,bench-peers]' -Ccmake.define.MEDKERN_EMULATED=ON
	@touch $@
