# SPDX-License-Identifier: GPL-2.0
#
# `make help` lists what can be made. All of it is made in the testbed, a Debian root with the
# toolchain in it: outside of it, this file only enters it and makes the same there.
# The kernel modules are described in Kbuild, the kselftests in tools/testing/selftests/p2pdma.

.DEFAULT_GOAL := help
.PHONY: help clean distclean
MAKEFLAGS += --no-print-directory
Q := $(if $(V),,@)
comma := ,

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "  %-15s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nVariables:\n'
	@sed -n 's/^## \([A-Z]*\)=/  \1=/p' $(MAKEFILE_LIST)

## FLAVOUR=stock      the kernel to use: a name in tools/testbed/flavours
## PATCH=<file>       a flavour that is compiled, with one more patch
## ARCH=arm64         the kernel's architecture, x86_64 or arm64; default: that of this machine
## KDIR=<dir>         make modules: build for this kernel tree, or O= directory
## KERNEL=<dir>       build for this kernel tree and boot it
## ONLY=<series>      check-series-patches: build the patches of this series only
## SERIES=7.4         update-lock: move FLAVOUR to this kernel series, if it works there
## LLVM=1             that kernel was built with clang
## TOPOLOGY="<name>"  check, coverage, fuzz: these topologies only; demo, shell: this one
## TEST="<glob>"      check, coverage: these tests only
## JOBS=<number>      check, mutants: guests to run side by side
## SHARD=<i>/<n>      check, mutants: a part of them only, see Documentation/p2pdma/vmtest.rst
## MINUTES=<number>   mutants: end after so many; the next run goes on from there
## AGAIN=survived     mutants: those that survived once more, and the rest; all: each of them
## FILE=<path>        mutants: only those of this file, e.g. drivers/pci/p2pdma.c
## REPEAT=<number>    check: run them so often, and name what is flaky
## STRESS=<number>    check: keep the machine busy meanwhile, by so many threads
## CALLS=100000       fuzz: how many steps, and calls
## SEED=<number>      fuzz, fuzz-tool: the same numbers as before
## SECONDS=60         fuzz-tool: how long each kind of input
## ARTIFACTS=<URL>    lava-job: where LAVA fetches the kernel and the tests
## JSON=1             bench, coverage, fuzz, kernel-series, mutants: print JSON
## DESTDIR=<dir>      install, modules_install: put it below that directory
## PREFIX=/usr/local  install: where programs and manual pages go
## MOK=<dir>          deb, modules_install: sign modules with MOK.priv and MOK.der in it
## V=1                show the commands
FLAVOUR ?= stock

HOST := $(patsubst aarch64,arm64,$(shell uname -m))
ARCH ?= $(if $(filter %-arm64,$(FLAVOUR)),arm64,$(HOST))
ifeq ($(filter $(ARCH),x86_64 arm64),)
$(error ARCH=$(ARCH): it can be x86_64 or arm64)
endif
# Kernels of other architectures have it in their name.
FLAVOUR_OF = $(patsubst %-arm64,%,$1)$(filter-out -x86_64,-$(ARCH))
# What the testbed's root has to have for it.
WITH := $(if $(filter arm64,$(ARCH)),--with arm64)

clean: ## Remove what was built in the checkout
	$(Q)rm -rf build rust-project.json

distclean: ## Remove the testbed, its kernels and all else in the cache too
	$(Q)tools/testbed/enter --remove && $(MAKE) clean

LINTS := lint-shell lint-ci lint-rustfmt lint-tools lint-checkpatch lint-modules
CHECK_SERIES := $(foreach part,patches docs selftests kernel vng,check-series-$(part))
INSIDE := demo check matrix check-debug ready shell selftest fuzz fuzz-tool bench bench-tool callgrind pictures mutants coverage kernel modules kselftest tools unit lint docs rust-analyzer update-lock kernel-series check-series check-series-mails $(CHECK_SERIES) merge kselftest-tar lava-job deb deb-reproducible check-packages release modules-staged $(LINTS)
.PHONY: $(INSIDE) testbed install install-files modules_install modules-install-files

# The one list of what is installed, for `make install` and for packages. What is generated comes
# from the program itself, or from DESCRIBE where it is not of this machine.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
PROGRAM ?= build/release/p2pdma
DESCRIBE ?= $(PROGRAM)
# Below DESTDIR, if one is given; a relative one is one of the directory that make is called in.
TO := $(if $(DESTDIR),$(shell realpath -m -- "$(DESTDIR)"))
BASH_COMPLETIONS := $(TO)$(PREFIX)/share/bash-completion/completions
FISH_COMPLETIONS := $(TO)$(PREFIX)/share/fish/vendor_completions.d
ZSH_COMPLETIONS := $(TO)$(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
install-files:
	$(Q)install -D -m 755 $(PROGRAM) "$(TO)$(PREFIX)/bin/p2pdma"
	$(Q)mkdir -p "$(TO)$(PREFIX)/share/man/man1" "$(BASH_COMPLETIONS)" "$(FISH_COMPLETIONS)" \
		"$(ZSH_COMPLETIONS)" "$(TO)$(PREFIX)/lib/systemd/system" "$(TO)$(SYSCONFDIR)/default"
	$(Q)$(DESCRIBE) man "$(TO)$(PREFIX)/share/man/man1"
	$(Q)$(DESCRIBE) completions bash >"$(BASH_COMPLETIONS)/p2pdma"
	$(Q)$(DESCRIBE) completions fish >"$(FISH_COMPLETIONS)/p2pdma.fish"
	$(Q)$(DESCRIBE) completions zsh >"$(ZSH_COMPLETIONS)/_p2pdma"
	$(Q)sed 's|@CONFIG@|$(SYSCONFDIR)/default/p2pdma|; s|@LIBEXEC@|$(PREFIX)/libexec/p2pdma|; s|@BIN@|$(PREFIX)/bin|' \
		packaging/p2pdma.service >"$(TO)$(PREFIX)/lib/systemd/system/p2pdma.service"
	$(Q)install -D -m 755 -t "$(TO)$(PREFIX)/libexec/p2pdma" packaging/p2pdma-boot
	$(Q)install -D -m 644 packaging/p2pdma.modprobe "$(TO)$(PREFIX)/lib/modprobe.d/p2pdma.conf"
	$(Q)test -e "$(TO)$(SYSCONFDIR)/default/p2pdma" || \
		install -m 644 packaging/p2pdma.default "$(TO)$(SYSCONFDIR)/default/p2pdma"
	$(Q)install -D -m 644 -t "$(TO)$(PREFIX)/share/doc/p2pdma" README.md Documentation/p2pdma/*.rst

modules-install-files:
	$(Q)cd build/staged && find lib -name '*.ko*' | while read -r module; do \
		install -D -m 644 "$$module" "$(TO)/$$module" || exit; done
	$(Q)cd build/staged/lib/modules && for release in *; do \
		test ! -e "$(TO)/lib/modules/$$release/modules.order" || \
		PATH="$$PATH:/sbin:/usr/sbin" depmod -b "$(TO)/" "$$release" || exit; done

ifndef P2PDMA_TESTBED

$(INSIDE):
	$(Q)tools/testbed/enter $(WITH) make -j$$(nproc) $@

lint lint-ci: WITH := --with ci$(if $(filter arm64,$(ARCH)),$(comma)arm64)

deb deb-reproducible check-packages: WITH += --with deb

bench-tool callgrind: WITH += --with measure

# Built in the testbed, installed from outside of it.
install: release ## Install the program (DESTDIR=<dir> PREFIX=<dir>)
	$(Q)$(MAKE) install-files

modules_install: modules-staged ## Install the modules for the kernel in use (DESTDIR=<dir>)
	$(Q)$(MAKE) modules-install-files

check-series check-series-vng: WITH += --with vng

# What reports.
coverage: WITH += --with coverage

# The lock has the kernels of all architectures.
update-lock: WITH := $(if $(shell grep -s '^suite = ' tools/testbed/flavours/$(FLAVOUR).toml),,--with arm64)

else

# Everything is linked statically, so that any program runs in the guest as well.
export CARGO_BUILD_TARGET := $(shell uname -m)-unknown-linux-gnu
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS := -C target-feature=+crt-static
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS := -C target-feature=+crt-static
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc-14
BIN := $(CARGO_TARGET_DIR)/$(CARGO_BUILD_TARGET)/debug

# Programs of the guest, where they are not the machine's own as well.
GUEST := $(if $(filter-out $(HOST),$(ARCH)),$(patsubst arm64,aarch64,$(ARCH)))
GUEST_BIN := $(if $(GUEST),$(CARGO_TARGET_DIR)/$(GUEST)-unknown-linux-gnu/debug,$(BIN))
CARGO := cd tools && cargo

# What is known of the kernel in use: kernel.json, and the same for the shell. It decides where
# modules and kselftests are built; the locks keep several runs of make apart.
OWN := $(or $(KERNEL),$(KDIR))
KERNEL_OUT := build/kernel/$(or $(subst /,_,$(OWN)),$(basename $(notdir $(PATCH))),$(call FLAVOUR_OF,$(FLAVOUR)))
WITH_KERNEL := . $(KERNEL_OUT)/kernel.env && OUT=$(CURDIR)/build/$$KERNEL_RELEASE &&
KERNEL_MAKE := $(WITH_KERNEL) flock build/modules.lock $(MAKE) -C $$KERNEL_BUILD $$KERNEL_MAKE M=$(CURDIR) MO=$$OUT
VMTEST = $(call VMTEST_IN,$1) $(TOPOLOGY:%=--topology %)
VMTEST_IN = $(BIN)/vmtest $1 --kernel $(KERNEL_OUT)/kernel.json --module-dir $$OUT \
	--bin-dir $$OUT/kselftest/p2pdma --bin-dir $(GUEST_BIN)

# First, and with the features of the whole workspace, so that nothing is compiled twice.
testbed:
	$(Q)$(CARGO) build --locked --workspace --bin testbed

kernel: testbed ## Prepare the kernel of FLAVOUR, or check that of KDIR or KERNEL
ifneq ($(OWN),)
	$(Q)$(BIN)/testbed check-kdir --out $(KERNEL_OUT) $(if $(KERNEL),--boot) \
		$(if $(LLVM),--llvm=$(LLVM)) -- $(OWN) >/dev/null
else
	$(Q)$(BIN)/testbed prepare --out $(KERNEL_OUT) --flavour $(call FLAVOUR_OF,$(FLAVOUR)) \
		$(PATCH:%=--patch %) >/dev/null
endif

demo: tools modules kselftest ## Show peer-to-peer I/O at work in a virtual machine
	$(Q)$(WITH_KERNEL) $(call VMTEST,demo)

check: tools modules kselftest ## Run all tests on all topologies
	$(Q)$(WITH_KERNEL) $(call VMTEST,run) $(TEST:%=--test '%') $(JOBS:%=--jobs %) $(SHARD:%=--shard %) \
		$(REPEAT:%=--repeat %) $(STRESS:%=--stress %) --results build/results/$$KERNEL_RELEASE

# Of all kernels whose shards are there.
merge: tools ## Merge the results of all shards (SHARD=<i>/<n>) into those of one run
	$(Q)status=0; for dir in $$(dirname build/results/*/shard-*-of-* | sort -u); do \
		$(BIN)/vmtest merge -o $$dir/whole $$dir/shard-*-of-* || status=$$?; \
	done; exit $$status

# From all results that are there.
matrix: tools ## Write the table of verdicts in the documentation, from results of make check
	$(Q)$(BIN)/vmtest matrix $(patsubst %/summary.json,%,$(wildcard build/results/*/summary.json)) \
		>build/matrix.rst && mv build/matrix.rst Documentation/p2pdma/matrix.rst

# The kernel's own list of topologies and time limits, from the flavour's data file.
check-debug: ## Run the tests on a kernel with KASAN, lockdep, kmemleak, KUnit, ...
	$(Q)$(MAKE) check FLAVOUR=debug KDIR= KERNEL= LLVM=

# Prints the path of the kernel's description, or nothing.
ready: testbed
	$(Q)$(BIN)/testbed ready --flavour $(call FLAVOUR_OF,$(FLAVOUR)) || test $$? = 1

shell: tools modules kselftest ## Open a shell in a virtual machine (TOPOLOGY=<name>)
	$(Q)$(WITH_KERNEL) $(call VMTEST,shell)

# Those of tests.toml, as far as the architecture has them.
FUZZ_IN = $(or $(TOPOLOGY),switch split $(if $(filter x86_64,$(ARCH)),hotplug iommu-amd root-ports-intel-iommu))

fuzz: tools modules ## Random programs over the library, and arguments for the test module (CALLS=<n> SEED=<n>)
	$(Q)$(WITH_KERNEL) for topology in $(FUZZ_IN); do \
		$(BIN)/p2pdma-fuzz hunt $(CALLS:%=--steps %) $(SEED:%=--seed %) -- \
			$(call VMTEST_IN,exec) --topology $$topology --timeout 7200 \
			--module p2pdma_random -- p2pdma-fuzz programs $(JSON:%=--json) && \
		$(call VMTEST_IN,exec) --topology $$topology --timeout 7200 \
			--module p2pdma_test -- p2pdma-fuzz $(CALLS:%=--calls %) $(SEED:%=--seed %) \
			$(JSON:%=--json) || exit; \
	done

fuzz-tool: testbed ## Random captures, trees, texts, logs and results for p2pdma (SECONDS=<n> SEED=<n>)
	$(Q)export P2PDMA_FUZZ_SECONDS=$(or $(SECONDS),60) $(SEED:%=P2PDMA_FUZZ_SEED=%) && \
		$(CARGO) test --locked --package p2pdma-tool --bin p2pdma fuzz:: -- --nocapture

# The modules for it are made for nothing else, but their style is checked.
bench lint-modules rust-analyzer: export P2PDMA_BENCH := y
bench: tools modules kselftest ## Compare the library with C, and the NVMe target with and without
	$(Q)$(WITH_KERNEL) $(call VMTEST,exec) --topology icount --timeout 300 \
		--module p2pdma_bench_c --module p2pdma_bench_rust -- p2pdma-bench $(JSON:%=--json)
	$(Q)$(WITH_KERNEL) $(call VMTEST,exec) --topology switch --timeout 300 \
		--module p2pdma_nvmet -- p2pdma_nvmet_bench $(JSON:%=--json)

# In one boot, with the same disk and memory: a file with one run of each a line.
bench-tool: tools modules kselftest ## Compare p2pdma bench with fio
	$(Q)mkdir -p build/bench-tool && cp tools/p2pdma/bench-fio.sh build/bench-tool/bench-fio
	$(Q)$(WITH_KERNEL) $(call VMTEST,exec) --topology switch --timeout 900 --bin-dir build/bench-tool \
		--file /bin/busybox --file /usr/bin/fio --file $(GUEST_BIN)/p2pdma -- \
		bench-fio $(GUEST_BIN)/p2pdma

# Instructions do not depend on the machine.
callgrind: tools ## Count the instructions of p2pdma check and topo, on machines of any size
	$(Q)$(CARGO) build --locked --package p2pdma-tool --example large_machine
	$(Q)tools/p2pdma/callgrind.sh $(BIN)/p2pdma $(BIN)/examples/large_machine

PICTURES := Documentation/p2pdma/pictures
pictures: tools modules kselftest ## Draw the pictures of the README, from a virtual machine
	$(Q)mkdir -p $(PICTURES) build/pictures
	$(Q)$(WITH_KERNEL) $(call VMTEST_IN,exec) --topology nested-switches -- \
		p2pdma topo --svg /proc/self/fd/1 >build/pictures/topo.svg
	$(Q)$(WITH_KERNEL) $(call VMTEST_IN,exec) --topology switch -- \
		p2pdma bench --client data --engine io-uring --time 2 --span 32M --json >build/pictures/bench.json
	$(Q)$(BIN)/p2pdma bench --results build/pictures/bench.json --report build/pictures/bench.svg
	$(Q)cp build/pictures/*.svg $(PICTURES)

# They are tried on the kernel that they are derived from, and one more is compiled that has them all.
MUTANTS = $(BIN)/p2pdma-mutants
mutants: tools ## Change the kernel in many ways, and look whether the tests notice
	$(Q)$(MAKE) kernel FLAVOUR=small PATCH= KDIR= KERNEL= LLVM=
	$(Q)$(MUTANTS) derive --kernel build/kernel/small
	$(Q)$(MAKE) modules kselftest FLAVOUR=mutants PATCH=build/mutants/mutants.patch KDIR= KERNEL= LLVM=
	$(Q). build/kernel/mutants/kernel.env && OUT=$(CURDIR)/build/$$KERNEL_RELEASE && \
		$(MUTANTS) run --kernel build/kernel/mutants $(SHARD:%=--shard %) $(JOBS:%=--jobs %) \
			$(MINUTES:%=--minutes %) $(AGAIN:%=--again %) $(FILE:%=--file %) -- \
			--module-dir $$OUT --bin-dir $$OUT/kselftest/p2pdma --bin-dir $(BIN) || test $$? = 1
	$(Q)$(MUTANTS) report $(JSON:%=--json)

# One guest for each topology: the counters are those of its one boot.
coverage: tools ## Count which lines of the kernel the tests run (build/coverage)
	$(Q)$(MAKE) modules kselftest FLAVOUR=coverage KDIR= KERNEL= LLVM=
	$(Q)touch build/coverage.begun
	$(Q)status=0; $(MAKE) check FLAVOUR=coverage KDIR= KERNEL= LLVM= JOBS=1 \
			$(if $(TEST),TEST='$(TEST) p2pdma_gcov') >build/coverage.log || status=$$?; \
		. build/kernel/coverage/kernel.env && results=build/results/$$KERNEL_RELEASE && \
		{ test $$results/summary.json -nt build/coverage.begun || \
			{ echo 'coverage: the tests could not be run, see build/coverage.log' >&2; exit 2; } } && \
		{ $(BIN)/p2pdma-coverage $(JSON:%=--json) --kernel build/kernel/coverage/kernel.json $$results; \
			covered=$$?; grep '^# FAILED' build/coverage.log >&2; \
			test $$status = 0 || exit 1; exit $$covered; }

modules: kernel ## Build the kernel modules
	$(Q)$(KERNEL_MAKE) modules >&2

kselftest: kernel ## Build the kselftest programs
	$(Q)$(WITH_KERNEL) mkdir -p $$OUT/kselftest/obj && \
		flock build/kselftest.lock $(MAKE) -C tools/testing/selftests/p2pdma KSRC=$$KERNEL_SOURCE \
		$(if $(GUEST),CROSS_COMPILE=$(GUEST)-linux-gnu-) \
		OUTPUT=$$OUT/kselftest/obj INSTALL_PATH=$$OUT/kselftest/p2pdma install $(if $(V),>&2,>/dev/null)

# As `make -C tools/testing/selftests gen_tar` packs them in a kernel tree, with the modules beside.
TARBALL = $$OUT/kselftest/kselftest.tar.gz
kselftest-tar: modules kselftest ## Pack the kselftests and the modules, with the kernel's own runner
	$(Q)$(WITH_KERNEL) cd $$OUT/kselftest && from=$$KERNEL_SOURCE/tools/testing/selftests && \
		rm -rf tar && mkdir -p tar/modules && cp -r p2pdma $$from/kselftest $$from/run_kselftest.sh tar && \
		find $$OUT -name '*.ko' -exec cp -t tar/modules {} + && \
		$(MAKE) -s -C $(CURDIR)/tools/testing/selftests/p2pdma KSRC=$$KERNEL_SOURCE COLLECTION=p2pdma \
			OUTPUT=$$OUT/kselftest/obj emit_tests >tar/kselftest-list.txt && \
		tar -C tar -czf kselftest.tar.gz . && rm -r tar && echo $(TARBALL)

# The placeholders of the job are variables of make.
lava-job: ## Print a job for LAVA that runs them (ARTIFACTS=<URL>)
	$(Q)test -n '$(ARTIFACTS)' || { echo 'lava-job: ARTIFACTS=<URL> of the directory with the files, see Documentation/p2pdma/ci.rst' >&2; exit 2; }
	$(Q)sed 's|@ARTIFACTS@/|$(ARTIFACTS:%/=%)/|' .ci/lava/kselftest.yaml

GUEST_CRATES := p2pdma-tool p2pdma-bench p2pdma-fuzz vmtest-guest

tools: testbed ## Build the programs in tools/
	$(Q)$(CARGO) build --locked --workspace
ifneq ($(GUEST),)
	$(Q)$(CARGO) build --locked --target $(GUEST)-unknown-linux-gnu $(GUEST_CRATES:%=--package %)
endif

# Those that are ignored by default need the modules, or what is prepared of the supported kernels.
SUPPORTED := stock stock-7.2
unit: modules ## Run the unit tests of the library and the tools
	$(Q)P2PDMA_KERNELS=$(CURDIR)/$(KERNEL_OUT)/kernel.json; for flavour in $(SUPPORTED); do \
		kernel=$$($(BIN)/testbed ready --flavour $$flavour) || test $$? = 1 || exit; \
		P2PDMA_KERNELS="$$P2PDMA_KERNELS $$kernel"; \
		test -n "$$kernel" || echo "unit: the list of host bridges is not compared with that of" \
			"the kernel $$flavour, which is not prepared: make kernel FLAVOUR=$$flavour" >&2; \
	done; $(WITH_KERNEL) export P2PDMA_MODULE_DIR=$$OUT P2PDMA_KERNELS KERNEL_SOURCE && \
		$(CARGO) test --locked --workspace --no-fail-fast -- --include-ignored

selftest: tools modules kselftest ## Check that the test runner finds what is wrong with a guest
	$(Q)$(WITH_KERNEL) $(call VMTEST,selftest)

lint: $(LINTS) ## Check the style of all sources

lint-shell:
	$(Q)git ls-files -z .ci/run tools/testbed/enter tools/testbed/root packaging/disk packaging/p2pdma-boot packaging/debian/missing packaging/debian/missing-hook '*.sh' | xargs -0 shellcheck -s sh

# The engines' own schemas: those of GitHub and GitLab come with check-jsonschema, LAVA's with LAVA.
CI_LIST := tools/testbed/packages/ci.txt
CI_VENV = /var/lib/p2pdma/ci-$(shell sha256sum <$(CI_LIST) | cut -c1-12)
lint-ci:
	$(Q)mkdir -p $(CI_VENV) && flock $(CI_VENV) sh -ec 'test -e $(CI_VENV)/ready || { \
		python3 -m venv $(CI_VENV); \
		$(CI_VENV)/bin/pip install -q --require-hashes --only-binary :all: -r $(CI_LIST); \
		touch $(CI_VENV)/ready; }' >&2
	$(Q)$(CI_VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml >&2
	$(Q)$(CI_VENV)/bin/check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci .gitlab-ci.yml >&2
	$(Q)python3 /usr/share/lava-common/lava-schema.py job --strict .ci/lava/*.yaml >&2

lint-rustfmt:
	$(Q)git ls-files -z '*.rs' | xargs -0 rustfmt --check

lint-tools: testbed
	$(Q)$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

lint-checkpatch: kernel
	$(Q)$(WITH_KERNEL) git ls-files -z '*.[ch]' | \
		xargs -0 $$KERNEL_SOURCE/scripts/checkpatch.pl --strict --no-tree --quiet --file

lint-modules: kernel
	$(Q)$(KERNEL_MAKE)-clippy CLIPPY=1 KRUSTFLAGS=-Dwarnings modules

docs: modules tools ## Write the documentation, and that of the Rust API
	$(Q)$(BIN)/p2pdma-mutants assertions
	$(Q)$(WITH_KERNEL) KERNEL_SOURCE=$$KERNEL_SOURCE PYTHONDONTWRITEBYTECODE=1 \
		sphinx-build -W --keep-going -q -d build/docs/.doctrees Documentation build/docs
	$(Q)$(WITH_KERNEL) for crate in p2pdma $$(test ! -e $$OUT/rust/nvmet/nvmet.o || echo nvmet); do \
		$(BIN)/testbed rustdoc --crate $$crate --to $(CURDIR)/build/docs/rust $$OUT || exit; \
	done

kernel-series: tools kernel ## Write the patch series for the kernel's mailing lists
	$(Q)$(WITH_KERNEL) $(BIN)/p2pdma-series write --kernel $$KERNEL_SOURCE --out build/series $(JSON:%=--json)

# As a maintainer would: apply them, look at their style, build each by gcc and by clang, and run the
# tests of the kernel that they make.
SERIES_TREE := $(CURDIR)/build/series/linux
SERIES_MAKE = $(MAKE) -C $(SERIES_TREE) O=$(SERIES_TREE).small LLVM=1
# What is built goes beside the source, which stays clean.
SERIES_SELFTESTS = $(MAKE) -C $(SERIES_TREE)/tools/testing/selftests O=$(SERIES_TREE).small \
	TARGETS=p2pdma SKIP_TARGETS=
SERIES_SOURCES := drivers/pci/p2pdma.c drivers/pci/listener.c drivers/pci/p2pdma_test/*.c \
	include/linux/pci-p2pdma.h include/linux/pci-listener.h include/linux/scatterlist.h
IN_TREE := build/series/in-tree.patch
check-series: ## Apply, build and run the patch series
	$(Q)for part in $(CHECK_SERIES); do \
		$(MAKE) $$part PATCH= KDIR= KERNEL= LLVM= || exit; done

SERIES_CHECK = $(WITH_KERNEL) $(BIN)/p2pdma-series check --kernel $$KERNEL_SOURCE --out build/series
check-series-mails: tools kernel ## Apply the patch series, and look at their style
	$(Q)$(SERIES_CHECK)

check-series-patches: tools kernel
	$(Q)$(MAKE) kernel FLAVOUR=small
	$(Q)$(SERIES_CHECK) \
		--tree $(SERIES_TREE) --build $(KERNEL_OUT)/kernel.json --build build/kernel/small/kernel.json \
		$(ONLY:%=--only %)

# Of all patches together. What rustdoc and clippy warn of is an error.
check-series-docs:
	$(Q)$(SERIES_MAKE) olddefconfig >build/series/clippy.log
	$(Q)$(SERIES_MAKE) CLIPPY=1 KRUSTFLAGS=-Dwarnings prepare >>build/series/clippy.log
	$(Q)$(SERIES_MAKE) rustfmtcheck >build/series/rustfmt.log 2>&1 || { cat build/series/rustfmt.log; false; }
	$(Q)$(SERIES_MAKE) rustdoc >build/series/rustdoc.log 2>&1 || { tail -n 40 build/series/rustdoc.log; false; }
	$(Q)! grep -A 8 -E '^(warning|error)' build/series/rustdoc.log
	$(Q)cd $(SERIES_TREE) && tools/docs/kernel-doc -none -Werror $(SERIES_SOURCES)
	$(Q)cd $(SERIES_TREE) && PYTHONDONTWRITEBYTECODE=1 tools/docs/get_abi.py -D Documentation/ABI validate \
		>../abi.log 2>&1 && ! grep p2pdma ../abi.log

check-series-selftests:
	$(Q)$(SERIES_MAKE) headers >build/series/headers.log
	$(Q)$(SERIES_SELFTESTS) \
		INSTALL_PATH=$(CURDIR)/build/series/kselftest install gen_tar >build/series/kselftest.log

# The same tests twice on one kernel: with modules and programs of this tree, and with its own.
check-series-kernel: tools
	$(Q)programs=$$(sed -n 's/^p2pdma:/--program /p' build/series/kselftest/kselftest-list.txt) && \
		tests=$$($(BIN)/vmtest list --names $${programs:?no program was installed}) && tests=$$(echo $$tests) && \
		$(MAKE) check FLAVOUR=in-tree PATCH=$(IN_TREE) TEST="$$tests" && \
		. build/kernel/in-tree/kernel.env && mkdir -p build/series/no-modules && \
		$(BIN)/vmtest run --kernel build/kernel/in-tree/kernel.json --module-dir build/series/no-modules \
			--bin-dir build/series/kselftest/p2pdma --bin-dir $(BIN) $(TOPOLOGY:%=--topology %) \
			--results build/series/results $$(printf -- '--test %s ' $$tests) && \
		$(BIN)/vmtest compare --same-tests build/results/$$KERNEL_RELEASE build/series/results

# As who works on the kernel runs them: `make run_tests` in the tree, and what was installed. All of
# the kernel is one file, and the root is that of this machine.
VNG = vng --run $$KERNEL_BUILD/$(VNG_IMAGE) $(VNG_EMULATED) --force-9p --disable-microvm --user root \
	--cpus 2 --memory 2G --overlay-rwdir $(CURDIR)/build/series \
	--qemu-opts="$$devices"
# Where there is /dev/kvm, but not the processor's virtualization, it works for few guests.
VNG_EMULATED := $(if $(filter x86_64,$(HOST)),$(if $(shell grep -wE 'vmx|svm' /proc/cpuinfo),,--disable-kvm))
VNG_IMAGE := $(if $(filter arm64,$(ARCH)),arch/arm64/boot/Image,arch/x86/boot/bzImage)
# Its two streams overwrite each other in a file, and not in a pipe.
IN_VNG = $(VNG) --exec "env $$environment $2; dmesg >/tmp/log && \
	! grep -E 'WARNING: |BUG: |Oops' /tmp/log | grep -vE '$(ASKED_FOR)' && echo ok, no complaint" | \
	tee build/series/$1.ktap | grep --line-buffered -E '^(not )?ok\>'
# Warnings that tests provoke: of flags that contradict each other, and of a provider without memory.
ASKED_FOR := WARNING: [^ ]* at (pcim_p2pdma_provider|is_valid_gup_args|(pin|get)_user_pages[a-z_]*)[+]
# What needs a module's file, slots to pull devices from, or allocations that fail, for which the
# kernel of the flavour built-in has no option.
NOT_IN_VNG := p2pdma_provider p2pdma_surprise p2pdma_fault p2pdma_nvmet_fault
check-series-vng: tools
	$(Q)cp $(IN_TREE) build/series/built-in.patch && mkdir -p build/series/media build/series/unpacked
	$(Q)$(MAKE) kernel FLAVOUR=built-in PATCH=build/series/built-in.patch
	$(Q)tar -C build/series/unpacked -xf build/series/kselftest/kselftest-packages/kselftest.tar.gz
	$(Q). build/kernel/built-in/kernel.env && \
		devices=$$($(BIN)/vmtest devices -t switch --media build/series/media) && \
		environment=$$($(BIN)/vmtest devices -t switch --environment) && \
		$(call IN_VNG,run_tests,$(SERIES_SELFTESTS) run_tests) && \
		$(call IN_VNG,run_kselftest,build/series/unpacked/run_kselftest.sh -f -c p2pdma)
	$(Q)sed -n 's/^p2pdma://p' build/series/kselftest/kselftest-list.txt | sort >build/series/programs
	$(Q)for file in run_tests run_kselftest; do \
		{ sed -n 's/^ok [0-9]* selftests: p2pdma: \([^ ]*\)$$/\1/p' build/series/$$file.ktap; \
			printf '%s\n' $(NOT_IN_VNG); } | sort | diff - build/series/programs && \
			grep -q '^ok, no complaint$$' build/series/$$file.ktap && \
			echo "$$file: all programs passed but $(NOT_IN_VNG)" || \
			{ echo "$$file: something is wrong, see build/series/$$file.ktap" >&2; exit 1; }; \
	done

release: testbed
	$(Q)$(CARGO) build --locked --release --package p2pdma-tool
	$(Q)install -D -t build/release $(CARGO_TARGET_DIR)/$(CARGO_BUILD_TARGET)/release/p2pdma

# Those for tests are left out.
modules-staged: kernel
	$(Q)rm -rf build/staged
	$(Q)$(WITH_KERNEL) export P2PDMA_WITHOUT_TESTS=y && for target in modules modules_install; do \
		flock build/modules.lock $(MAKE) -C $$KERNEL_BUILD $$KERNEL_MAKE M=$(CURDIR) \
		MO=$$OUT-install INSTALL_MOD_PATH=$(CURDIR)/build/staged INSTALL_MOD_DIR=updates/p2pdma \
		DEPMOD=true $(if $(MOK),CONFIG_MODULE_COMPRESS_ALL=) $$target >&2 || exit; done
	$(Q)$(WITH_KERNEL) test -z "$(MOK)" || for module in build/staged/lib/modules/*/updates/p2pdma/*.ko; do \
		$$KERNEL_BUILD/scripts/sign-file sha256 $(MOK)/MOK.priv $(MOK)/MOK.der $$module || exit; done

# Where it is built is part of what is built, so it is the same place for everybody: in /tmp, which
# each run in the testbed has for itself.
DEB_ARCH := $(patsubst x86_64,amd64,$(ARCH))
DEB_OUT := build/deb/$(DEB_ARCH)
DEB_LOG = $(CURDIR)/$(DEB_OUT).log
# Metadata that are made for another architecture hold macros for this one: they are left out, and
# with them what is the same for all.
DEB_HOW := $(if $(GUEST),-B -Pcross$(comma)nocheck$(comma)pkg.p2pdma.nometadata,-b)
deb: tools kernel ## Make Debian packages for the kernel in use
	$(Q)rm -rf /tmp/p2pdma $(DEB_OUT) && mkdir -p /tmp/p2pdma $(DEB_OUT)
	$(Q)$(BIN)/p2pdma-packages source --kernel $(KERNEL_OUT)/kernel.json \
		$(DEB_SUFFIX:%=--version-suffix %) --out /tmp/p2pdma/source
	@echo "packages: building, see $(DEB_LOG)" >&2
	$(Q)cd /tmp/p2pdma/source && DESCRIBE=$(BIN)/p2pdma \
		dpkg-buildpackage $(DEB_HOW) -us -uc -d -a$(DEB_ARCH) -j$$(nproc) >$(DEB_LOG) 2>&1 || \
		{ tail -n 40 $(DEB_LOG) && false; }
	$(Q)mv /tmp/p2pdma/*.* $(DEB_OUT)
	$(Q)cd $(DEB_OUT) && ls -s -h --block-size=K -- *.deb

# Nothing that the first time has compiled is used the second time, and cargo's folder is another one.
DEB_AGAIN := $(CURDIR)/build/deb/again
deb-reproducible: deb ## Make the packages once more from nothing, and compare them bit by bit
	$(Q)rm -rf $(DEB_AGAIN) && mkdir -p $(DEB_AGAIN)
	$(Q)$(MAKE) deb DEB_OUT=build/deb/again/$(DEB_ARCH) DEB_CARGO=$(DEB_AGAIN)/cargo >/dev/null
	$(Q)rm -r $(DEB_AGAIN)/cargo; differs=; for deb in $(DEB_OUT)/*.deb; do \
		other=$(DEB_AGAIN)/$(DEB_ARCH)/$${deb##*/}; cmp $$deb $$other && continue; differs=1; \
		rm -rf /tmp/differs && mkdir /tmp/differs && dpkg-deb -R $$deb /tmp/differs/first && \
		dpkg-deb -R $$other /tmp/differs/second && diff -qr /tmp/differs/first /tmp/differs/second; \
	done; test -z "$$differs" && echo "packages: $$(ls $(DEB_OUT)/*.deb | wc -l) packages are the same bit by bit"

# What the guest gets to see: a repository; a second one with a later version, whose modules are
# signed; the kernel's own samples; and what is installed where there are no packages.
REPOSITORY := build/repository
TEST_KEY := $(CURDIR)/build/mok
check-packages: deb ## Install, use, upgrade and purge the packages in a virtual machine with Debian
	$(Q)lintian --allow-root --tag-display-limit 0 --fail-on error,warning $(DEB_OUT)/*.changes
	$(Q)rm -rf $(REPOSITORY) $(TEST_KEY) && mkdir -p $(REPOSITORY)/current $(REPOSITORY)/next $(TEST_KEY)
	$(Q)cp $(DEB_OUT)/*.deb $(REPOSITORY)/current
	$(Q)openssl req -new -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Key of a test/' \
		-outform DER -out $(TEST_KEY)/MOK.der -keyout $(TEST_KEY)/MOK.priv 2>/dev/null
	$(Q)$(MAKE) deb DEB_OUT=build/deb/next DEB_SUFFIX=+next MOK=$(TEST_KEY) \
		DEB_HOW='-b -Ppkg.p2pdma.nometadata' >/dev/null
	$(Q)cp build/deb/next/*.deb $(REPOSITORY)/next
	$(Q)for dir in current next; do \
		(cd $(REPOSITORY)/$$dir && apt-ftparchive packages . >Packages) || exit; done
	$(Q)$(MAKE) modules-staged MOK=$(TEST_KEY)
	$(Q)rm -rf /tmp/program && dpkg-deb -x $(DEB_OUT)/p2pdma_*.deb /tmp/program
	$(Q)$(MAKE) install-files modules-install-files PROGRAM=/tmp/program/usr/bin/p2pdma \
		DESTDIR=$(CURDIR)/$(REPOSITORY)/other
	$(Q)$(WITH_KERNEL) cp -r $$KERNEL_SOURCE/samples/rust $(REPOSITORY)/samples
	$(Q)$(WITH_KERNEL) disk=$$(packaging/disk $$KERNEL_RELEASE) && \
		version=$$(dpkg-deb -f $(DEB_OUT)/p2pdma_*.deb Version) && \
		$(BIN)/p2pdma-packages check --plan packaging/check.toml --repository $(REPOSITORY) \
		--disk $$disk/disk.img --image $$disk/vmlinuz --initrd $$disk/initrd.img \
		--define ABI=$$KERNEL_RELEASE --define LOCALVERSION=$${KERNEL_RELEASE#*-} \
		--define VERSION=$$version --define NEXT=$$version+next \
		--results build/results/packages

rust-analyzer: modules ## Write rust-project.json, for editors
	$(Q)$(KERNEL_MAKE) rust-analyzer
	$(Q)$(WITH_KERNEL) $(BIN)/testbed rust-project $$OUT >rust-project.json

update-lock: testbed ## Move to the newest kernel packages of the supported series, or to SERIES
	$(Q)$(BIN)/testbed update-lock $(if $(SERIES),--series $(SERIES) --flavour $(call FLAVOUR_OF,$(FLAVOUR)))

endif
