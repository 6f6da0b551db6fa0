/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions for what C has as macros, inline functions or fields of structures
 * that the Rust abstraction of nvmet keeps opaque.
 */
#ifndef _P2PDMA_NVMET_HELPERS_H
#define _P2PDMA_NVMET_HELPERS_H

#include <linux/types.h>

struct notifier_block;
struct nvmet_ctrl;
struct nvmet_fabrics_ops;
struct nvmet_port;
struct nvmet_req;
struct nvmet_sq;
struct page;
struct scatterlist;

u16 p2pdma_nvmet_helper_port_id(const struct nvmet_port *port);
void *p2pdma_nvmet_helper_port_priv(const struct nvmet_port *port);
void p2pdma_nvmet_helper_port_set_priv(struct nvmet_port *port, void *priv);

u16 p2pdma_nvmet_helper_ctrl_id(const struct nvmet_ctrl *ctrl);
const struct nvmet_fabrics_ops *
p2pdma_nvmet_helper_ctrl_ops(const struct nvmet_ctrl *ctrl);

bool p2pdma_nvmet_helper_req_is_write(const struct nvmet_req *req);
bool p2pdma_nvmet_helper_req_is_refused(struct nvmet_req *req);
bool p2pdma_nvmet_helper_req_has_provider(const struct nvmet_req *req);

void p2pdma_nvmet_helper_flush(void);

struct page *p2pdma_nvmet_helper_sg_page(struct scatterlist *sg,
					 unsigned int nth);
void *p2pdma_nvmet_helper_sg_virt(struct scatterlist *sg);

#endif /* _P2PDMA_NVMET_HELPERS_H */
