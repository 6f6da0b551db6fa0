// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the Rust crate `p2pdma` a module that other modules can use: exports
 * its symbols, as rust/exports.c of the kernel does for the kernel crate. Not
 * needed any more once the crate is part of the kernel crate.
 */

#include <linux/export.h>
#include <linux/module.h>

#include "exports_generated.h"

MODULE_DESCRIPTION("Rust abstractions for PCI peer-to-peer DMA");
MODULE_LICENSE("GPL");
