# SPDX-License-Identifier: GPL-2.0
#
# `make help` lists what can be made. All of it is made in the testbed, a Debian root with the
# toolchain in it: outside of it, this file only enters it and makes the same there.
# The kernel modules are described in Kbuild, the kselftests in tools/testing/selftests/p2pdma.

.DEFAULT_GOAL := help
.PHONY: help clean distclean
MAKEFLAGS += --no-print-directory
Q := $(if $(V),,@)

help: ## List what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'
	@printf '\nVariables:\n'
	@sed -n 's/^## \([A-Z]*\)=/  \1=/p' $(MAKEFILE_LIST)

## FLAVOUR=stock      the kernel to use: a name in tools/testbed/flavours
## KDIR=<dir>         make modules: build for this kernel tree, or O= directory
## KERNEL=<dir>       build for this kernel tree and boot it
## LLVM=1             that kernel was built with clang
## TOPOLOGY="<name>"  check, demo, shell: these topologies only
## TEST="<glob>"      check: these tests only
## V=1                show the commands
FLAVOUR ?= stock

clean: ## Remove what was built in the checkout
	$(Q)rm -rf build rust-project.json

distclean: clean ## Remove the testbed, its kernels and all else in the cache too
	$(Q)tools/testbed/enter --remove

INSIDE := demo check shell modules kselftest tools unit lint rust-analyzer update-lock
.PHONY: $(INSIDE) testbed kernel

ifndef P2PDMA_TESTBED

$(INSIDE):
	$(Q)tools/testbed/enter make -j$$(nproc) $@

else

# Everything is linked statically, so that any program runs in the guest as well.
export CARGO_BUILD_TARGET := x86_64-unknown-linux-gnu
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS := -C target-feature=+crt-static
BIN := $(CARGO_TARGET_DIR)/$(CARGO_BUILD_TARGET)/debug
CARGO := cd tools && cargo

# What is known of the kernel in use: kernel.json, and the same for the shell.
OWN := $(or $(KERNEL),$(KDIR))
KERNEL_OUT := build/kernel/$(or $(subst /,_,$(OWN)),$(FLAVOUR))
WITH_KERNEL := . $(KERNEL_OUT)/kernel.env && OUT=$(CURDIR)/build/$$KERNEL_RELEASE &&
KERNEL_MAKE := $(WITH_KERNEL) $(MAKE) -C $$KERNEL_BUILD M=$(CURDIR) MO=$$OUT $$KERNEL_MAKE
VMTEST = $(BIN)/vmtest $1 --kernel $(KERNEL_OUT)/kernel.json --module-dir $$OUT \
	--bin-dir $$OUT/kselftest/p2pdma --bin-dir $(BIN) $(TOPOLOGY:%=--topology %)

testbed:
	$(Q)$(CARGO) build --locked --package testbed

kernel: testbed
ifneq ($(OWN),)
	$(Q)$(BIN)/testbed check-kdir --out $(KERNEL_OUT) $(if $(KERNEL),--boot) \
		$(if $(LLVM),--llvm=$(LLVM)) -- $(OWN) >/dev/null
else
	$(Q)$(BIN)/testbed prepare --out $(KERNEL_OUT) --flavour $(FLAVOUR) >/dev/null
endif

demo: tools modules kselftest ## Show peer-to-peer I/O at work in a virtual machine
	$(Q)$(WITH_KERNEL) $(call VMTEST,demo)

check: tools modules kselftest ## Run all tests on all topologies
	$(Q)$(WITH_KERNEL) $(call VMTEST,run) $(TEST:%=--test '%') --results build/results/$$KERNEL_RELEASE

shell: tools modules kselftest ## Open a shell in a virtual machine (TOPOLOGY=<name>)
	$(Q)$(WITH_KERNEL) $(call VMTEST,shell)

modules: kernel ## Build the kernel modules
	$(Q)mkdir -p build && $(KERNEL_MAKE) modules

kselftest: kernel ## Build the kselftest programs
	$(Q)$(WITH_KERNEL) mkdir -p $$OUT/kselftest/obj && \
		$(MAKE) -C tools/testing/selftests/p2pdma KSRC=$$KERNEL_SOURCE \
		OUTPUT=$$OUT/kselftest/obj INSTALL_PATH=$$OUT/kselftest/p2pdma install

tools: testbed ## Build the programs in tools/
	$(Q)$(CARGO) build --locked --workspace

unit: testbed ## Run the unit tests of the tools
	$(Q)$(CARGO) test --locked --workspace

rust-analyzer: kernel ## Write rust-project.json, for editors
	$(Q)$(KERNEL_MAKE) rust-analyzer

update-lock: testbed ## Move to the newest kernel packages of the supported series
	$(Q)$(BIN)/testbed update-lock

endif
