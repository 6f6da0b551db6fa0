/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions for what C has as macros or inline functions, so that Rust can
 * call it. The prefix is this project's own: rust_helper_ belongs to the
 * kernel's.
 */
#ifndef _P2PDMA_HELPERS_H
#define _P2PDMA_HELPERS_H

#include <linux/pci.h>
#include <linux/types.h>

struct page;

bool p2pdma_helper_has_p2pdma(struct pci_dev *pdev);
unsigned long p2pdma_helper_resource_flags(struct pci_dev *pdev, int bar);
pci_bus_addr_t p2pdma_helper_bus_address(struct pci_dev *pdev, int bar);
struct page *p2pdma_helper_virt_to_page(const void *addr);

#endif /* _P2PDMA_HELPERS_H */
