# SPDX-License-Identifier: GPL-2.0
#
# What is known of the kernel and of the build: the tool that fills in this folder has found it out.
VERSION := @VERSION@
ABI := @ABI@
KBUILD_ABI := @KBUILD_ABI@
KERNEL_SOURCE := @KERNEL_SOURCE@
KERNEL_BUILD := @KERNEL_BUILD@
KERNEL_MAKE := @KERNEL_MAKE@
CROSS := @CROSS@
STRIP := @STRIP@
