// SPDX-License-Identifier: GPL-2.0

//! PCI peer-to-peer DMA.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma.rs`, of the maintainers of PCI
//! peer-to-peer DMA.
//!
//! With peer-to-peer DMA one PCI device reads and writes memory of another without a detour
//! through system memory. Three roles take part, named as in
//! [`Documentation/driver-api/pci/p2pdma.rst`](srctree/Documentation/driver-api/pci/p2pdma.rst):
//!
//! - A *provider* offers a BAR, or a part of one, as memory: [`provider`].
//! - A *client* does DMA to and from it: [`client`].
//! - An *orchestrator* pairs them ([`orchestrator`]) and hands memory out of the provider's
//!   [`pool`], while it keeps the devices [bound](pci::bound).
//!
//! User space gets at the memory by mapping the provider's `p2pmem/allocate`, and hands it to the
//! kernel as the buffer of an I/O: [`user`], [`mod@page`], [`block`].
//!
//! # Layers
//!
//! Each folder, or file beside the folders, uses those before it only: `raw`, [`compat`],
//! [`mod@page`], [`system`], [`pci`], [`pool`], [`provider`] and [`client`], then [`orchestrator`],
//! [`user`] and [`block`].
//!
//! # Context
//!
//! Functions that do not say otherwise neither sleep nor allocate, and can be called in any
//! context.
//!
//! # Lifetimes
//!
//! Everything in this crate rests on one argument, which `SAFETY` comments point to.
//!
//! 1. The pages of a provider are a managed resource of its device (`devm_memremap_pages()`). They
//!    are unmapped when the driver is unbound: by hand through sysfs, because the device is
//!    unplugged, because the driver's module is removed, or because `probe()` fails. All of these
//!    end in `device_unbind_cleanup()`.
//! 2. Each allocation holds a reference to these pages (`pci_alloc_p2pmem()` takes
//!    `pgmap->ref`), and so does each page that user space has mapped or the kernel has pinned.
//!    `memunmap_pages()` first refuses new references and then waits, uninterruptibly, until all
//!    are gone. While an allocation exists its pages are mapped.
//! 3. The pool was made before the pages, so it is destroyed after them (managed resources are
//!    released in reverse order). While an allocation exists, there is a pool that it can be given
//!    back to, and `pdev->p2pdma` is not NULL.
//! 4. The `struct pci_dev` is counted: a borrow or an [`ARef`](kernel::sync::aref::ARef) keeps it,
//!    also when the device is gone from the bus. Reads of a device that is gone return all ones.
//!
//! From 2 to 4 follows that an allocation can be used and dropped at any time without touching
//! memory that is not its own. What is left is the opposite: a device that can never be unbound,
//! because the last allocation would be dropped only after the wait in 2. Unplugging a device waits
//! under the lock of all of PCI hotplug. Hence:
//!
//! 5. Kernel crate drivers are unbound in the order `unbind()`, then drop of the driver's private
//!    data, then release of managed resources. A [`Provider`](provider::Provider) lives in the
//!    private data, and what it allocates is tied to `'bound`: it can be kept in the private data,
//!    too, but nowhere that lasts longer. So it is dropped before the wait, unless it is leaked.
//! 6. An orchestrator holds a counted reference ([`Pool::alloc_owned()`](pool::Pool::alloc_owned)),
//!    and no lifetime ties it to the provider's driver. It must have a reason of its own to drop
//!    its allocations in bounded time; [`watch`](orchestrator::watch) tells it when, also where
//!    `probe()` fails: until then user space can map what was registered.
//! 7. New allocations need a pool, and so a device whose managed resources are not being released
//!    while they are made. A [`Pool`](pool::Pool) is tied to that: through `'bound`, which ends
//!    before; or through the lock of another driver's device, under which all of unbinding
//!    happens ([`bound`](pci::bound)).
//! 8. Code stays as long as it can be called. What a driver registers with its own device
//!    ([`sysfs`](pci::sysfs)) goes when that is unbound, before the driver's module does, and it
//!    needs `Core` as the proof that it is its own. What is registered with something else is
//!    removed when its owner is dropped. If that is leaked, it borrows nothing, and code of the
//!    module that leaked it is not called after the module has gone: what tells of drivers that go
//!    ([`watch`](orchestrator::watch)) is silenced before, and other registrations are removed
//!    ([`AtModuleExit`](system::AtModuleExit)); what ends a managed mapping
//!    ([`map_devres()`](client::sg::Sgl::map_devres)) is code of this library, which stays
//!    loaded for it.
//!
//! What is not closed: memory that is leaked, or pages that are, hold up the unbinding of their
//! provider for ever (5 and 6). A mapping that is leaked stays when its client is unbound. Nothing
//! is used after it was freed then. A [`Listener`](pci::notifier::Listener) that registers a driver
//! may wait for itself, and one that calls closures of another module calls what may be gone with
//! that. To ask for a distance, the kernel looks at the first device of a host bridge without a
//! reference to it (see `Documentation/p2pdma/kernel-issues.rst`), and at what the driver of a host
//! controller has, which may be unbound at that moment. A page that is held 2^21 times
//! over makes the kernel warn when it is pinned once more; and it says in its log, with a stack
//! trace, who pins what is right below a stack (`gup_vma_lookup()`), which user space can choose.

#[path = "../bindings/lib.rs"]
mod bindings;
mod raw;

pub mod block;
pub mod client;
pub mod compat;
pub mod orchestrator;
pub mod page;
pub mod pci;
pub mod pool;
pub mod provider;
pub mod system;
pub mod user;
