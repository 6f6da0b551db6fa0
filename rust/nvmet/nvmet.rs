// SPDX-License-Identifier: GPL-2.0

//! Transports of the NVMe target.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! Place: `drivers/nvme/target/rust/nvmet.rs`, kept by NVM EXPRESS TARGET DRIVER.
//!
//! The target's core (`nvmet.ko`) knows subsystems, namespaces and controllers; a *transport*
//! brings it the commands of hosts, and memory for their data. Roles and terms are the core's:
//!
//! - A transport is registered under a type ([`registration`]). The administrator creates *ports*
//!   of that type in configfs and links subsystems to them; the core tells the transport
//!   ([`transport::Port`]).
//! - A host connects *queues* through a port, the first of them creates its *controller*
//!   ([`queue`], [`connect`], [`ctrl`]).
//! - Each command that arrives on a queue becomes a *request*: the core parses it, the transport
//!   provides the memory for its data and has it executed, the core hands it back with a completion
//!   ([`request`], [`data`], [`command`]).
//!
//! Memory for data can be peer-to-peer memory of a PCI device: where the namespace has its `p2pmem`
//! attribute set, and the transport names a *client*, the device that does the fabric's DMA, when
//! it connects ([`connect::Connect::client`]). Then the core pairs the namespace's device and the
//! client with a provider, and [`Request::alloc_data()`](request::Request::alloc_data) takes the
//! memory from there.
//!
//! # Layers
//!
//! Each file uses those before it only: the bindings, [`command`] and [`ctrl`], `entry` and
//! [`data`], [`transport`], [`queue`], [`request`], [`connect`], [`registration`]. [`client`] uses
//! the bindings only.
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
//!    [`Port`](transport::Port) and so by each [`Queue`](queue::Queue); controllers exist only
//!    while queues do. (Queues of this transport, that is. The core lets a host connect a queue
//!    through another transport to a controller of this one, which then outlives them; that is a
//!    defect of the core which transports can do nothing about: see "Controllers of other
//!    transports" in `Documentation/p2pdma/kernel-issues.rst`.)
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
//!    requests, and the scatterlists that they own, are gone before the queue is. One that was
//!    leaked is on the list of its queue, which lets go of what the core holds for it, and frees it
//!    and its data, when the queue is dropped: nobody can use it then, because the borrow has
//!    ended. Until then it keeps its namespace from being disabled, as a host that is slow to send
//!    data does.
//! 6. *The scatterlist*: pages of the system, owned by the request; or memory of a provider's pool.
//!    The latter's pages, pool and `struct pci_dev` stay while memory is allocated from it: points
//!    2 and 3 in the documentation of the crate `p2pdma`. The request needs no reference to the
//!    provider for that, and the core takes none.
//! 7. *The transport's code*: the core holds a reference to the transport's module while a port is
//!    enabled, but not while work that it caused is still on `nvmet_wq`. Dropping the
//!    [`Registration`](registration::Registration) flushes that.
//!
//! What is left to who writes a transport, because no type closes it yet:
//!
//! - A [`Queue`](queue::Queue) that is leaked, or kept for ever, keeps its controller, and so holds
//!   up the release of its port and the removal of the module (points 3 and 7). Nothing is used
//!   after it was freed.
//! - A [`Registration`](registration::Registration) must not be dropped where it waits for itself:
//!   on a worker of [`transport::queue()`], or in
//!   [`remove_port()`](transport::Transport::remove_port).
//!
//! A [`Registration`](registration::Registration) that is leaked is removed when its module goes,
//! between the module's exit function and the release of its memory.

mod bindings;

pub mod client;
pub mod command;
pub mod connect;
pub mod ctrl;
pub mod data;
mod entry;
pub mod queue;
pub mod registration;
pub mod request;
pub mod transport;
