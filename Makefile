# The two commands of the README: `make demo` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

NPU := .venv-npu/bin
MMCV1 := .venv-mmcv1/bin
# A file's tests share what they import, so a file is one job.
TOGETHER := -n auto --dist loadfile

.PHONY: zoo parity demo demo-npu demo-mmcv1 test check lanes npu mmcv1 index table bench clean

# Make the virtual environment $(1), in which packages come from $(2) where it has none.
define layer
	$(PYTHON) -m venv --clear --without-pip $(1)
	$(2)/bin/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> "$$($(1)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/below.pth"
endef

# A virtual environment of our own, made anew when what belongs into it changes.
$(VENV)/ready: pyproject.toml tests/requirements.txt tests/requirements-no-deps.txt tests/requirements-apart.txt \
		tests/requirements-transformers.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -c tests/requirements.txt -e '.[openmmlab,test,bench]'
	$(BIN)/pip install -q --no-deps -r tests/requirements-no-deps.txt
	$(BIN)/pip install -q --no-deps --target $(VENV)/apart -r tests/requirements-apart.txt
	$(BIN)/pip install -q --no-deps --target $(VENV)/transformers \
		-r tests/requirements-transformers.txt
	touch $@

# The same environment with torch-npu on top, whose presence alone changes `import torch`.
.venv-npu/ready: $(VENV)/ready tests/requirements-npu.txt
	$(call layer,.venv-npu,$(VENV))
	$(BIN)/pip --python $(NPU)/python install -q --no-deps -r tests/requirements-npu.txt
	touch $@

# OpenMMLab's packages of the time of mmcv 1.x on top of that; mmcv is not compiled, and
# mmdet3d, of which 0.17 would have to be, is laid down as it was published.
.venv-mmcv1/ready: .venv-npu/ready tests/requirements-mmcv1.txt tests/build-constraints-mmcv1.txt
	$(call layer,.venv-mmcv1,.venv-npu)
	MMCV_WITH_OPS=0 $(BIN)/pip --python $(MMCV1)/python install -q --no-deps \
		--build-constraint tests/build-constraints-mmcv1.txt -r tests/requirements-mmcv1.txt
	for version in 0.17.1 1.0.0rc6; do \
		$(BIN)/pip download -q --no-deps --no-build-isolation --no-binary mmdet3d \
			-d .venv-mmcv1/mmdet3d mmdet3d==$$version && \
		tar -xzf .venv-mmcv1/mmdet3d/mmdet3d-$$version.tar.gz -C .venv-mmcv1/mmdet3d || exit 1; \
	done
	touch $@

# Threads that spin while they wait cost a factor of three where something else runs.
demo: $(VENV)/ready
	OMP_WAIT_POLICY=passive $(BIN)/python -m mx_autopatch examples/train_detector.py

# The same, and a script written for CUDA with two processes, on an NPU that is not there.
demo-npu: .venv-npu/ready
	rm -rf work_dirs/demo_npu
	OMP_WAIT_POLICY=passive $(NPU)/python examples/demo_npu.py

# A script written for mmcv 1.x: mmdet 2.28's RetinaNet. DEVICE=soft: in half precision, as
# mmdet 2.28 trains on NPUs.
demo-mmcv1: DEVICE = cpu
demo-mmcv1: .venv-mmcv1/ready
	OMP_WAIT_POLICY=passive $(MMCV1)/python -m mx_autopatch --device $(DEVICE) \
		examples/train_detector_mmcv1.py

# What the lane "npu" does on the CPU as well, and what has no device in it, once a test run.
ON_BOTH := $(addprefix tests/patches/test_,resnets.py pseudo_sampler.py)
ON_NONE := $(addprefix tests/patches/test_,nuscenes.py registry_errors.py numpy.py python.py \
	setuptools.py yapf.py index.py mx_driving.py)

# An engine that starts late goes through all that is loaded: these run where mmdet is not.
LIGHT := $(addprefix tests/,engine cli patcher e2e profiling patches/test_mx_driving.py)

test: ONCE := $(addprefix --ignore=,$(ON_BOTH))
test: check npu mmcv1 lanes

# Everything on one Python, with torch and the OpenMMLab packages.
check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q $(TOGETHER) $(LIGHT)
	$(BIN)/python -m pytest -q $(TOGETHER) $(addprefix --ignore=,$(LIGHT)) $(ONCE)

# What concerns the NPU, on the soft one: the real torch_npu, computed by the CPU.
npu: .venv-npu/ready
	$(NPU)/python -m pytest -q $(TOGETHER) tests/softnpu tests/patches $(addprefix --ignore=,$(ON_NONE))

# mmcv 1.x, with the mmdet and mmseg of its time, on the same torch, CPU and soft NPU.
mmcv1: .venv-mmcv1/ready
	$(MMCV1)/python -m pytest -q $(TOGETHER) tests/mmcv1

# Every operator of torch's own database on the soft NPU and on the CPU: 8 minutes of
# computing, on two cores.
parity: .venv-npu/ready
	OMP_NUM_THREADS=1 $(NPU)/python tests/softnpu/parity.py --jobs 2

# One config of every architecture of mmdet, mmseg and mmdet3d: a prediction and a loss step.
zoo: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m mx_autopatch tests/zoo/zoo.py

# The engine on the other Pythons.
lanes: $(VENV)/ready
	$(BIN)/python tests/lanes.py

# After a change of patches: which one is in which file, and what fires it.
index: $(VENV)/ready
	$(BIN)/python -m mx_autopatch.patches
	$(BIN)/ruff format -q mx_autopatch/patches/index.py

# After `make index`: the README's table of patches, measured in every lane.
table: .venv-mmcv1/ready
	$(BIN)/python tests/patch_table.py

bench: $(VENV)/ready
	for script in startup import_module call import_mmdet first_step; do $(BIN)/python benchmarks/$$script.py || exit 1; done

clean:
	rm -rf .venv .venv-* work_dirs data
