// SPDX-License-Identifier: GPL-2.0

//! Transports of the NVMe target.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! The target's core (`nvmet.ko`) knows subsystems, namespaces and controllers; a *transport*
//! brings it the commands of hosts, and memory for their data. Roles and terms are the core's:
//!
//! - A transport is registered under a type ([`transport`]). The administrator creates *ports* of
//!   that type in configfs and links subsystems to them; the core tells the transport ([`port`]).
//! - A host connects *queues* through a port, the first of them creates its *controller*
//!   ([`queue`], [`ctrl`]).
//! - Each command that arrives on a queue becomes a *request*: the core parses it, the transport
//!   provides the memory for its data and has it executed, the core hands it back with a completion
//!   ([`request`], [`command`]).
//!
//! Memory for data can be peer-to-peer memory of a PCI device: where the namespace has its `p2pmem`
//! attribute set, and the transport names a *client*, the device that does the fabric's DMA, when
//! it connects ([`queue::Connect::client`]). Then the core pairs the namespace's device and the
//! client with a provider, and [`Request::alloc_data()`](request::Request::alloc_data) takes the
//! memory from there.
//!
//! # Lifetimes
//!
//! `SAFETY` comments point here. What has to outlive what, and what makes it so:
//!
//! 1. *The core's module*: this code is linked into a module that refers to symbols of `nvmet.ko`,
//!    which therefore stays.
//! 2. *`struct nvmet_fabrics_ops`*: read by the core while the transport is registered, a port of
//!    it is enabled, or a controller of it exists. It is part of
//!    [`Registered`](transport::Registered), counted by the registration, by each
//!    [`Port`](port::Port) and so by each [`Queue`](queue::Queue); controllers exist only while
//!    queues do. (Queues of this transport, that is. The core lets a host connect a queue through
//!    another transport to a controller of this one, which then outlives them; that is a defect of
//!    the core which transports can do nothing about: see "Controllers of other transports" in
//!    `Documentation/p2pdma/kernel-issues.rst`.)
//! 3. *`struct nvmet_port`*: valid from `add_port()` until `nvmet_port_release()`, which first
//!    flushes `nvmet_wq`. Each queue counts itself in its port, and `remove_port()`, which comes
//!    before the release, puts an item on `nvmet_wq` that waits until this count is zero. So a port
//!    is valid while it has queues; and while there is a controller that was connected through it,
//!    because I/O queues count the admin queue as well. (The transport has to drop them in bounded
//!    time: it is told by [`Transport::delete_ctrl()`](transport::Transport::delete_ctrl).)
//! 4. *`struct nvmet_sq`, `struct nvmet_cq`*: pinned in their [`Queue`](queue::Queue), destroyed
//!    when it is dropped. `nvmet_sq_destroy()` waits until the core has completed all requests.
//! 5. *`struct nvmet_req`*: memory of its own on the heap, owned by a
//!    [`Request`](request::Request), or by the core between
//!    [`execute()`](request::Request::execute) and the response. It borrows from its queue, so that
//!    requests, and the scatterlists that they own, are gone before the queue is.
//! 6. *The scatterlist*: pages of the system, owned by the request; or memory of a provider's pool.
//!    The latter's pages, pool and `struct pci_dev` stay while memory is allocated from it: points
//!    2 and 3 in the documentation of the crate `p2pdma`. The request needs no reference to the
//!    provider for that, and the core takes none.
//! 7. *The transport's code*: the core holds a reference to the transport's module while a port is
//!    enabled, but not while work that it caused is still on `nvmet_wq`. Dropping the
//!    [`Registration`](transport::Registration) flushes that.

mod bindings;

pub mod client;
pub mod command;
pub mod ctrl;
pub mod port;
pub mod queue;
pub mod request;
pub mod transport;
