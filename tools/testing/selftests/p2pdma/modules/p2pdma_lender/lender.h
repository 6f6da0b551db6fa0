/* SPDX-License-Identifier: GPL-2.0 */
#ifndef P2PDMA_LENDER_H
#define P2PDMA_LENDER_H

struct pci_dev;

void p2pdma_lender_call(void *data, unsigned long event, struct pci_dev *pdev);
void p2pdma_lender_release(void *data);

#endif
