// SPDX-License-Identifier: GPL-2.0
/*
 * See helpers.h. Nothing is exported: the abstraction is linked into the module
 * of the transport that uses it.
 */

#include <linux/device/bus.h>
#include <linux/mm.h>
#include <linux/nvme.h>
#include <linux/pci.h>
#include <linux/radix-tree.h>
#include <linux/scatterlist.h>
#include <linux/workqueue.h>

#include "nvmet.h"

#include "helpers.h"

u16 p2pdma_nvmet_helper_port_id(const struct nvmet_port *port)
{
	return le16_to_cpu(port->disc_addr.portid);
}

void *p2pdma_nvmet_helper_port_priv(const struct nvmet_port *port)
{
	return port->priv;
}

void p2pdma_nvmet_helper_port_set_priv(struct nvmet_port *port, void *priv)
{
	port->priv = priv;
}

u16 p2pdma_nvmet_helper_ctrl_id(const struct nvmet_ctrl *ctrl)
{
	return ctrl->cntlid;
}

const struct nvmet_fabrics_ops *
p2pdma_nvmet_helper_ctrl_ops(const struct nvmet_ctrl *ctrl)
{
	return ctrl->ops;
}

bool p2pdma_nvmet_helper_req_is_write(const struct nvmet_req *req)
{
	return nvme_is_write(req->cmd);
}

/*
 * Whether the core looks at a request that it has completed:
 * nvmet_passthru_execute_cmd_work() at its command,
 * nvmet_bdev_zone_append_bio_done() at its bio. Or waits for others before it
 * completes it: nvmet_pr_do_abort() for all that were parsed, which may never
 * be executed.
 */
bool p2pdma_nvmet_helper_req_is_refused(struct nvmet_req *req)
{
	if (!req->sq->ctrl || nvme_is_fabrics(req->cmd))
		return false;
	if (nvmet_is_passthru_req(req))
		return true;
	if (!req->sq->qid || !req->ns)
		return false;
	if (req->cmd->common.opcode == nvme_cmd_resv_acquire)
		return (le32_to_cpu(req->cmd->common.cdw10) & 7) ==
		       NVME_PR_ACQUIRE_ACT_PREEMPT_AND_ABORT;
	return req->ns->csi == NVME_CSI_ZNS &&
	       req->cmd->common.opcode == nvme_cmd_zone_append;
}

/*
 * What nvmet_req_find_p2p_dev() finds, if that is anything. The provider's
 * device is not returned: only the lookup is protected.
 */
bool p2pdma_nvmet_helper_req_has_provider(const struct nvmet_req *req)
{
	bool found;

	if (!IS_ENABLED(CONFIG_PCI_P2PDMA) ||
	    !req->sq->ctrl || !req->sq->qid || !req->ns)
		return false;

	rcu_read_lock();
	found = radix_tree_lookup(&req->sq->ctrl->p2p_ns_map, req->ns->nsid);
	rcu_read_unlock();
	return found;
}

void p2pdma_nvmet_helper_flush(void)
{
	flush_workqueue(nvmet_wq);
}

struct page *p2pdma_nvmet_helper_sg_page(struct scatterlist *sg,
					 unsigned int nth)
{
	return sg_page(sg) + nth;
}

void *p2pdma_nvmet_helper_sg_virt(struct scatterlist *sg)
{
	return sg_virt(sg);
}

