# SPDX-License-Identifier: MIT
# moekit. `make help` lists the targets; INSTALL explains them.
VERSION = 0.1.0
prefix  = $(or $(PREFIX),/usr/local)
DESTDIR =
CC      = gcc
CFLAGS  = -O2 -g
SAN     =# 1: AddressSanitizer and UndefinedBehaviorSanitizer, in a build folder of its own
FAULTS  =# 1: with the seeded faults that tests must catch (lib/base/faults.h)
EMULATED =# 1: the CUDA backend on t/emulator, for tests on a machine without a GPU
FUZZ    = $(notdir $(basename $(wildcard t/fuzz/*.c)))# what `make fuzz` runs,
SECONDS = 10# how long each, or
RUNS    =# how many inputs each
SEED    =# the first seed of `make hunt`; else the clock's
V       =# 1: show the commands
JOBS    = $(shell nproc)

COMMANDS = moe-partition moe-plan-check moe-train moe-ckpt moe-stat
# gcc builds into .build/release, clang into .build/clang-release, a cross compiler into .build/TARGET-gcc-release.
BUILD    = .build/$(addsuffix -,$(filter-out gcc,$(notdir $(CC))))$(if $(EMULATED),emulated$(if $(CUDA_HOME),,-bare)$(if $(SAN),-san),$(if $(SAN),san,$(if $(FAULTS),faults,release)))

# ---- flags ----
STD      = -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers -Wvla $(WARN) -Ilib -Ikernels -DVERSION='"$(VERSION)"' \
           -D_GNU_SOURCE -fno-math-errno -fno-trapping-math -ffp-contract=off -fopenmp-simd
CLANG    = $(findstring clang,$(CC))
WARN     = $(if $(CLANG),-Wshadow -Wno-pass-failed,-Wshadow=local)
SANFLAGS = $(if $(SAN),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
FAULTDEF = $(if $(FAULTS)$(EMULATED),-DMOEKIT_FAULTS)
comma    = ,
ALL_CFLAGS = $(STD) $(CFLAGS) $(SANFLAGS) $(FAULTDEF) -MMD -MP
Q        = $(if $(V),,@)
say      = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)')

# ---- CUDA: the backend is built where the toolkit is; CUDA_HOME= leaves it out ----
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(firstword $(wildcard /usr/local/cuda/bin/nvcc) $(shell command -v nvcc)))
CUDA_ARCHS = 80 90a 100# code for these, and PTX of compute_80 for all later ones
NVCC      := $(if $(filter .build/release,$(BUILD)),$(wildcard $(CUDA_HOME)/bin/nvcc))# only gcc's plain build has it
CUDA       = $(NVCC)$(EMULATED)
CUDA_SO    = $(if $(CUDA),$(BUILD)/lib/moekit/moekit-cuda.so)
CUDA_O     = $(patsubst %.cu,$(BUILD)/%.o,$(wildcard kernels/cuda/*.cu))
NVFLAGS    = -std=c++17 -O3 $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) -gencode arch=compute_80,code=compute_80 \
             -Ilib -Ikernels -D_GNU_SOURCE -MMD -MP -Werror all-warnings -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-unused-function,-Werror
# With EMULATED=1 the same sources are compiled by g++, and linked with t/emulator instead of CUDA's libraries.
EMULATOR_O = $(patsubst %.cpp,$(BUILD)/%.o,$(filter-out $(if $(SAN),t/emulator/hooks.cpp),$(wildcard t/emulator/*.cpp)))
EMULATOR_TEST_O = $(patsubst %.cu,$(BUILD)/%.o,$(wildcard t/emulator/test/*.cu))
GPU_CU     = $(patsubst %.cu,$(BUILD)/%.o,$(wildcard t/gpu/*.cu))
EMULATED_FLAGS = -std=gnu++17 -O2 -g -Wall -Wextra -Wno-unused-function -Werror -fPIC -fvisibility=hidden -ffp-contract=off -D_GNU_SOURCE -DMOEKIT_EMULATED \
             $(SANFLAGS) -Ilib -Ikernels $(if $(CUDA_HOME),-isystem $(CUDA_HOME)/include,-It/emulator/include) -MMD -MP
WATCHED    = $(if $(SAN),-O1,-O2) -include t/emulator/device.h -fno-strict-aliasing $(if $(SAN),,-fsanitize=thread,alignment,bounds,signed-integer-overflow)
# NCCL, which --comm nccl opens when it is used, needs its header only: the toolkit's, or else the system's.
NCCL_H     = $(if $(CUDA),$(shell grep -lsE '^.define NCCL_MINOR +(2[89]|[3-9][0-9])' $(CUDA_HOME)/include/nccl.h /usr/include/nccl.h \
             /usr/local/include/nccl.h $(if $(EMULATED),t/emulator/include/nccl.h)))
NCCL_CFLAGS = $(if $(NCCL_H),-DMOEKIT_NCCL $(if $(CUDA_HOME),-isystem $(CUDA_HOME)/include,-It/emulator/include))
LDFLAGS    = $(if $(CUDA),-rdynamic)# the module uses the program's functions

MPI_CFLAGS = $(shell pkg-config --cflags ompi-c 2>/dev/null)
MPI_LIBS   = $(shell pkg-config --libs ompi-c 2>/dev/null)

# ---- what is built ----
obj      = $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(1)))
rooms    = $(call obj,$(1:%=lib/%/*.c))
# The rooms of lib that each command is linked with; unit tests and the bench may use all.
PARTITION_O  = $(call rooms,base model plan cost check choose emit)
PLAN_CHECK_O = $(call rooms,base model plan cost check stat claim draw)
STAT_O       = $(call rooms,base model plan cost stat draw)
CKPT_O       = $(filter-out $(BUILD)/lib/ckpt/save% $(BUILD)/lib/ckpt/load%,$(call rooms,base model plan cost check choose tensors ckpt pack recast))
TRAIN_O      = $(call rooms,base model plan cost check tensors ckpt data comm probe engine train) $(KERNEL_O)
ALL_O        = $(call rooms,*) $(KERNEL_O)
KERNEL_O = $(call obj,kernels/*.c kernels/*/*.c)

LIBS       = -ljansson -lz -lm -pthread
PACK_LIBS  = -larchive -ldeflate -lzstd $(ISAL)
TRAIN_LIBS = -ldeflate -ldnnl $(MPI_LIBS) -fopenmp $(ISAL)
# Sums of checkpoints are four times as fast with ISA-L, on processors that it has code for; without it they are libdeflate's.
ISAL      := $(shell $(CC) -shared -include isa-l/crc.h -x c -o /dev/null /dev/null -lisal 2>/dev/null && echo -lisal)
BIN        = $(COMMANDS:%=$(BUILD)/bin/%)
UNIT       = $(patsubst t/unit/%.c,$(BUILD)/t/%,$(wildcard t/unit/*.c))
GPU_TESTS  = kernels kernels-route kernels-loss waits routing-compare $(addprefix gpu/,instructions products sizes bench groups)
HELPERS    = $(patsubst t/lib/%.c,$(BUILD)/t/%,$(wildcard t/lib/*.c))

.SECONDARY:
.PHONY: all unit gpu kernels emulator-test emulator-module portable check check-unit check-large check-sanitized prove-unit prove-ranks check-portable check-slurm hunt fuzz $(FUZZ:%=fuzz-%) demo bench \
        builds $(addprefix build-,faults emulated bare sanitized clang fuzz) oracles install uninstall deb deps deps-clang deps-portable deps-slurm arm64 clean help
all: $(BIN) $(CUDA_SO)
	$(Q)ln -sfn $(notdir $(BUILD)) .build/current

help:
	@echo 'make all        build the commands into .build/release/bin'
	@echo 'make deps       install what is missing, from Debian; for clang, aarch64, Slurm'
	@echo '                and packages: deps-clang, deps-portable, deps-slurm, deps-deb'
	@echo 'make demo       the whole pipeline on real text'
	@echo 'make check      all tests; check-unit: of the library alone;'
	@echo '                check-large: the full matrices; check-sanitized: some under'
	@echo '                sanitizers; check-portable: clang, and aarch64 under qemu;'
	@echo '                check-slurm: the batch scripts, on a Slurm that it starts'
	@echo 'make fuzz       hostile bytes for every parser; FUZZ=NAME, SECONDS=N, RUNS=N'
	@echo 'make hunt       random layouts, over and over; SECONDS=N, SEED=N, SAN=1'
	@echo 'make oracles    an environment with PyTorch, for the tests that compare with it'
	@echo 'make bench      speed against PyTorch and against the machine'
	@echo 'make gpu        what t/gpu/run runs where there is a GPU (t/gpu/README)'
	@echo 'make install    prefix=$(prefix) DESTDIR=$(DESTDIR); uninstall'
	@echo 'make deb        a package for Debian, into .build/deb (deps-deb)'
	@echo 'make unit       build the unit tests into .build/release/t'
	@echo 'make clean      remove what was built'
	@echo 'knobs: V=1 show commands, SAN=1 sanitizers, FAULTS=1 seeded faults,'
	@echo '       EMULATED=1 CUDA without a GPU, CUDA_HOME= without CUDA,'
	@echo '       JOBS=N tests at a time, PYTHON, CC, CFLAGS, prefix, DESTDIR'

$(BUILD)/lib/comm/%.o: ALL_CFLAGS += $(MPI_CFLAGS)
$(call obj,lib/comm/nccl*.c): ALL_CFLAGS += $(NCCL_CFLAGS)
$(BUILD)/lib/tensors/sum.o: ALL_CFLAGS += $(if $(ISAL),-DMOEKIT_ISAL)
$(BUILD)/kernels/%.o: ALL_CFLAGS += -fopenmp
# Sanitizers make a minute of work for the compiler of what -O3 unrolls.
$(BUILD)/kernels/cpu/%.o $(BUILD)/lib/pack/%.o: ALL_CFLAGS += $(if $(SAN),-O1,-O3)
# Multiply and add in one instruction where the processor has it; elsewhere in the tree each is rounded, so that an update has the same
# bits everywhere.
$(filter-out %/optim.o,$(call obj,kernels/cpu/*.c)): ALL_CFLAGS += -ffp-contract=fast
$(BUILD)/t/%: private ALL_CFLAGS += -fopenmp -It $(if $(CLANG),--rtlib=compiler-rt)# which has the conversions of lib/half.h
$(BUILD)/t/bench/kernels: private ALL_CFLAGS += -O3 -ffp-contract=fast# it has the exponentials of kernels/cpu

# `make -j deps demo` must not compile before deps is through.
$(BUILD)/%.o: %.c Makefile | $(filter deps%,$(MAKECMDGOALS))
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/kernels/cuda.o: ALL_CFLAGS += $(if $(CUDA),-DMOEKIT_CUDA)
# Built with the toolkit after a build without it, or the other way round: what knows of it is compiled again.
WITH_CUDA := $(BUILD)/$(if $(CUDA),with,without)-cuda
$(if $(wildcard $(WITH_CUDA)),,$(shell mkdir -p $(BUILD) && rm -f $(BUILD)/with-cuda $(BUILD)/without-cuda && touch $(WITH_CUDA)))
$(BUILD)/kernels/cuda.o: $(WITH_CUDA)
ifdef EMULATED
$(CUDA_O) $(EMULATOR_TEST_O) $(GPU_CU): $(BUILD)/%.o: %.cu Makefile
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) -x c++ $(EMULATED_FLAGS) $(WATCHED) -c -o $@ $<
$(BUILD)/t/emulator/blaslt.o: EMULATED_FLAGS += -O3# its loops are most of what a test of devices computes
$(EMULATOR_O): $(BUILD)/%.o: %.cpp Makefile
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(EMULATED_FLAGS) -c -o $@ $<
$(CUDA_SO): $(CUDA_O) $(EMULATOR_O)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) -shared $(SANFLAGS) -o $@ $^ -ldl
	$(Q)ln -sfn $(@F) $(@D)/libnccl.so.2
	$(Q)ln -sfn $(@F) $(@D)/libnvidia-ml.so.1
$(BUILD)/t/emulator-test: $(EMULATOR_TEST_O) $(EMULATOR_O) $(BUILD)/kernels/failure.o $(BUILD)/lib/base/error.o
	$(call say,TEST,$@)
	$(Q)$(CXX) -o $@ $^ -ldl
emulator-module: $(CUDA_SO) $(BUILD)/t/emulator-test
emulator-test: all emulator-module $(filter $(BUILD)/t/backends $(BUILD)/t/kernels $(BUILD)/t/kernels-%,$(UNIT))
$(BUILD)/t/gpu/instructions: $(GPU_CU) $(EMULATOR_O) $(BUILD)/kernels/failure.o $(BUILD)/lib/base/error.o
	$(call say,TEST,$@)
	$(Q)$(CXX) $(SANFLAGS) -o $@ $^ -ldl
else
$(BUILD)/kernels/cuda/optim.o: NVFLAGS += -fmad=false
$(CUDA_O) $(GPU_CU): $(BUILD)/%.o: %.cu Makefile
	$(call say,NVCC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(NVCC) $(NVFLAGS) -c -o $@ $<
$(BUILD)/lib/moekit/moekit-cuda.so: $(CUDA_O)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(NVCC) -shared -cudart static -o $@ $^ -L$(CUDA_HOME)/lib64 -lcublasLt -Xlinker -rpath,$(CUDA_HOME)/lib64
$(BUILD)/t/gpu/instructions: $(GPU_CU) $(BUILD)/kernels/failure.o $(BUILD)/lib/base/error.o
	$(call say,TEST,$@)
	$(Q)$(NVCC) -cudart static -o $@ $^
endif

$(BUILD)/bin/moe-partition: $(PARTITION_O) $(call obj,cmd/moe-partition_*.c)
$(BUILD)/bin/moe-plan-check: $(PLAN_CHECK_O)
$(BUILD)/bin/moe-stat: $(STAT_O)
$(BUILD)/bin/moe-ckpt: LIBS += $(PACK_LIBS)
$(BUILD)/bin/moe-ckpt: $(CKPT_O)
$(BUILD)/bin/moe-train: LIBS += $(TRAIN_LIBS)
$(BUILD)/bin/moe-train: $(TRAIN_O)
$(BUILD)/bin/%: $(BUILD)/cmd/%.o
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# A unit test is one file; it may use the whole library.
$(BUILD)/t/%: t/unit/%.c $(ALL_O)
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LIBS) $(PACK_LIBS) $(TRAIN_LIBS) -lcmocka
$(BUILD)/t/%: t/lib/%.c $(ALL_O)
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LIBS) $(PACK_LIBS) $(TRAIN_LIBS)
# moe-train with a watcher in it.
$(BUILD)/t/bench/profile-run: t/bench/profile-run.c $(BUILD)/cmd/moe-train.o $(TRAIN_O)
	$(call say,BENCH,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LIBS) $(TRAIN_LIBS)
$(BUILD)/t/bench/%: t/bench/%.c $(KERNEL_O) $(CKPT_O)
	$(call say,BENCH,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(sort $(filter %.c %.o,$^)) $(LIBS) $(PACK_LIBS) -ldnnl -fopenmp
$(BUILD)/t/gpu/sizes: $(call obj,t/gpu/sizes*.c) $(KERNEL_O) $(call rooms,base)
	$(call say,TEST,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) -ldnnl -fopenmp
$(BUILD)/t/gpu/groups: t/gpu/groups.c $(TRAIN_O)
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LIBS) $(TRAIN_LIBS)
$(BUILD)/t/gpu/%: t/gpu/%.c $(KERNEL_O) $(call rooms,base)
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LIBS) -ldnnl -fopenmp
# A fuzz target is one file; it may use what needs no MPI.
$(BUILD)/bin/fuzz-%: t/fuzz/%.c $(sort $(PLAN_CHECK_O) $(CKPT_O) $(STAT_O) $(call rooms,data))
	$(call say,FUZZ,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -It -fsanitize=fuzzer -o $@ $(filter %.c %.o,$^) $(LIBS) $(PACK_LIBS)
unit: $(UNIT) $(HELPERS) $(CUDA_SO)
# What t/gpu/run runs, beside the commands.
gpu: all $(if $(CUDA),$(addprefix $(BUILD)/t/,$(GPU_TESTS)))
kernels: $(KERNEL_O)
portable: $(filter-out %/moe-train,$(BIN)) kernels

# ---- tests ----
# MOEKIT_REQUIRE="mpi torch …" turns a skip for want of that into a failure.
PROVE_ENV = MOEKIT_BIN='$(CURDIR)/$(BUILD)/bin' MOEKIT_T='$(CURDIR)/$(BUILD)/t' MOEKIT_PYTHON='$(PYTHON)' \
            OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 CMOCKA_MESSAGE_OUTPUT=TAP
PYTHON    = $(CURDIR)/.build/oracles/bin/python
TESTS     = $(sort $(wildcard t/[0-9]*.t))
COMM_UNIT = $(filter $(BUILD)/t/comm%,$(UNIT))

# The builds that tests use beside the plain one, a folder each: make -j makes them side by side.
OTHERS    = faults emulated $(if $(CUDA_HOME),bare)
again     = $(Q)+$(MAKE) --no-print-directory# + : with the same jobs, which make does not see in a variable
build-faults:
	$(again) FAULTS=1 all
build-emulated:
	$(again) EMULATED=1 emulator-test gpu
build-bare:
	$(again) EMULATED=1 CUDA_HOME= emulator-module
build-sanitized:
	$(again) SAN=1 EMULATED=1 all unit
build-clang:
	$(again) CC=clang all unit
# All that .ci/run tests.
builds: all unit $(OTHERS:%=build-%) build-sanitized build-clang build-fuzz

check: all unit $(if $(SAN),,$(OTHERS:%=build-%))
	$(Q)$(PROVE_ENV) $(if $(SAN),,perl t/lib/budget.pl t/budget )prove -j $(JOBS) --timer $(UNIT) $(TESTS)
check-unit: all unit
	$(Q)$(PROVE_ENV) prove -j $(JOBS) --timer $(UNIT)
check-large: all unit $(OTHERS:%=build-%)
	$(Q)$(PROVE_ENV) MOEKIT_LARGE=1 prove --timer $(UNIT) $(TESTS)
# Unit tests, those of kernels with backend cuda on the emulator, and a handful of layouts under ASan and UBSan, by MPI and by NCCL, and captured;
# leaks are looked for where no communication is involved. make -j runs the two halves side by side.
check-sanitized: build-sanitized
	$(again) SAN=1 EMULATED=1 prove-unit prove-ranks
prove-unit:
	$(Q)$(PROVE_ENV) prove -j $(JOBS) --timer $(filter-out $(COMM_UNIT),$(UNIT))
prove-ranks:
	$(Q)$(PROVE_ENV) ASAN_OPTIONS=detect_leaks=0 MOEKIT_EMULATED=$(notdir $(BUILD)) prove -j $(JOBS) --timer t/0830-nccl.t t/0813-captured.t t/0600-layouts.t \
	    $(COMM_UNIT)
# Also for aarch64, under qemu; skipped without a cross compiler unless MOEKIT_REQUIRE says "aarch64 clang".
check-portable: all unit
	$(Q)$(PROVE_ENV) prove --timer t/0030-portable.t
# A real Slurm of four nodes on this host, and the scripts of share/slurm on it; skipped without unless MOEKIT_REQUIRE says "slurm".
check-slurm: all
	$(Q)$(PROVE_ENV) prove --timer $(wildcard t/slurm/*.t)
# What goes wrong once in many thousand steps. What is found stays in .build/hunt.
hunt: all
	$(Q)$(PROVE_ENV) bash t/hunt $(SECONDS) $(SEED)
# A libFuzzer target for every parser, from seeds in t/fuzz/seeds. What crashes stays in .build/fuzz.
of_fuzz = $(again) CC=$(if $(CLANG),$(CC),clang) SAN=1 BUILD=.build/fuzz CFLAGS='-O1 -g -fsanitize=fuzzer-no-link'
build-fuzz:
	$(of_fuzz) $(FUZZ:%=.build/fuzz/bin/fuzz-%)
fuzz:
	$(of_fuzz) $(FUZZ:%=fuzz-%)
$(FUZZ:%=fuzz-%): fuzz-%: $(BUILD)/bin/fuzz-%
	$(Q)RUNS=$(RUNS) SECONDS=$(SECONDS) sh t/fuzz/run $* $(BUILD)
demo: all
	$(Q)MOEKIT_BIN='$(CURDIR)/$(BUILD)/bin' sh t/demo
bench: all $(patsubst t/bench/%.c,$(BUILD)/t/bench/%,$(wildcard t/bench/*.c))
	$(Q)$(PROVE_ENV) bash t/bench/run

# ---- what is needed, and what the tests compare with ----
deps          = gcc libc6-dev pkg-config libjansson-dev zlib1g-dev libarchive-dev libdeflate-dev libisal-dev libzstd-dev libopenmpi-dev openmpi-bin libdnnl-dev libcmocka-dev perl jq gnuplot-nox mandoc libarchive-tools
deps-clang    = clang libclang-rt-dev libomp-dev
deps-deb      = debhelper dpkg-dev fakeroot lintian
deps-slurm    = slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libpmix2 shellcheck
deps-portable = $(deps-clang) gcc-aarch64-linux-gnu qemu-user libjansson-dev:arm64 zlib1g-dev:arm64 libarchive-dev:arm64 libdeflate-dev:arm64 libzstd-dev:arm64
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)
deps deps-clang deps-deb deps-portable deps-slurm:
	$(Q)missing=$$(for p in $($@); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	[ -z "$$missing" ] || { $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; }
deps-portable: arm64
arm64:
	$(Q)(dpkg --print-architecture; dpkg --print-foreign-architectures) | grep -qx arm64 || $(SUDO) dpkg --add-architecture arm64

oracles: .build/oracles/done
.build/oracles/done: contrib/oracle/requirements.txt
	$(Q)mkdir -p .build && rm -rf .build/oracles && python3 -m venv .build/oracles
	$(Q).build/oracles/bin/pip install -q -r $<
	$(Q)touch $@

# ---- installing ----
bindir = $(DESTDIR)$(prefix)/bin
libdir = $(DESTDIR)$(prefix)/lib/moekit
datadir = $(DESTDIR)$(prefix)/share
install: all
	install -d $(bindir) $(datadir)/moekit/models $(datadir)/moekit/clusters $(datadir)/moekit/claims $(datadir)/man/man1 $(datadir)/man/man5 $(datadir)/man/man7 $(datadir)/moekit/slurm $(datadir)/bash-completion/completions
	install $(BIN) $(bindir)
	$(if $(EMULATED),$(error an emulated build is for tests))$(if $(CUDA_SO),install -d $(libdir) && install $(CUDA_SO) $(libdir))
	install -m 644 share/models/*.json $(datadir)/moekit/models
	install -m 644 share/clusters/*.json $(datadir)/moekit/clusters
	install -m 644 share/claims/* $(datadir)/moekit/claims
	install -m 644 share/man/*.1 $(datadir)/man/man1
	install -m 644 share/man/*.5 $(datadir)/man/man5
	install -m 644 share/man/*.7 $(datadir)/man/man7
	install share/slurm/*.sbatch $(datadir)/moekit/slurm
	for c in $(COMMANDS); do install -m 644 contrib/completions/moekit.bash $(datadir)/bash-completion/completions/$$c; done
# contrib/debian built in a copy of the tree. The changelog of a package is the history of its source: it names the version alone.
DEB = .build/deb/moekit-$(VERSION)
deb:
	$(Q)rm -rf .build/deb && mkdir -p $(DEB)
	$(Q)tar -c --exclude-vcs --exclude=./.build . | tar -x -C $(DEB) && mv $(DEB)/contrib/debian $(DEB)/debian
	$(Q)printf 'moekit ($(VERSION)) unstable; urgency=medium\n\n  * Built from source.\n\n -- %s  %s\n' \
	    "$$(sed -n 's/^Maintainer: //p' $(DEB)/debian/control)" "$$(date -R)" >$(DEB)/debian/changelog
	$(Q)cd $(DEB) && MAKEFLAGS= DEB_BUILD_OPTIONS="parallel=$(JOBS) $(DEB_BUILD_OPTIONS)" dpkg-buildpackage -us -uc -b
	$(Q)lintian --fail-on error .build/deb/*.changes
uninstall:
	rm -f $(COMMANDS:%=$(bindir)/%) $(COMMANDS:%=$(datadir)/bash-completion/completions/%)
	rm -f $(foreach n,1 5 7,$(patsubst share/man/%,$(datadir)/man/man$(n)/%,$(wildcard share/man/*.$(n))))
	rm -rf $(datadir)/moekit $(libdir)

clean:
	rm -rf $(filter-out .build/oracles,$(wildcard .build/*))

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
