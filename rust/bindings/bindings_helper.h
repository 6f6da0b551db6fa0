/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel's own bindings crate lacks, for bindgen: macros that it cannot
 * evaluate, which get a type and a value here, and our helpers.
 */

#include <linux/blk_types.h>
#include <linux/blkdev.h>
#include <linux/uio.h>

#include "../helpers/helpers.h"

const blk_features_t P2PDMA_CONST_BLK_FEAT_PCI_P2PDMA = BLK_FEAT_PCI_P2PDMA;
const blk_opf_t P2PDMA_CONST_REQ_NOMERGE = REQ_NOMERGE;
const iov_iter_extraction_t P2PDMA_CONST_ITER_ALLOW_P2PDMA = ITER_ALLOW_P2PDMA;
