/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel's own bindings crate lacks, for bindgen: macros that it cannot
 * evaluate, which get a type and a value here, and our helpers.
 */

#include <linux/uio.h>

#include "../helpers/helpers.h"

const iov_iter_extraction_t P2PDMA_CONST_ITER_ALLOW_P2PDMA = ITER_ALLOW_P2PDMA;
