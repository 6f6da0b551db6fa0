// SPDX-License-Identifier: GPL-2.0
/*
 * What p2pdma_keeper has the library call, until this module is gone: the code of
 * a Listening (rust/p2pdma/pci/notifier.rs) that another module keeps.
 */

#include <linux/module.h>
#include <linux/pci.h>

#include "lender.h"

void p2pdma_lender_call(void *data, unsigned long event, struct pci_dev *pdev)
{
	if (event == BUS_NOTIFY_UNBIND_DRIVER)
		pci_info(pdev, "lender: a driver goes\n");
}
EXPORT_SYMBOL_GPL(p2pdma_lender_call);

void p2pdma_lender_release(void *data)
{
	pr_info("lender: released\n");
}
EXPORT_SYMBOL_GPL(p2pdma_lender_release);

MODULE_DESCRIPTION("Test code that another module has called");
MODULE_LICENSE("GPL");
