// SPDX-License-Identifier: GPL-2.0

//! Steps for which devices are kept bound: what is allocated on loan, and mapped, goes before.

use crate::{
    held::Object,
    machine::{
        function,
        look_at_table,
        transfer,
        Machine,
        WRONG, //
    },
    program::{
        Op,
        Step, //
    }, //
};
use kernel::{
    dma::DataDirection,
    pci,
    prelude::*,
    sync::aref::ARef, //
};
use p2pdma::{
    client::{
        sg::{
            EntryExt,
            MapType,
            MappedSgl,
            Sgl, //
        },
        Client, //
    },
    compat::code::EOPNOTSUPP,
    pci::bound::BoundDevice,
    pool::{
        Memory,
        Pool, //
    }, //
};

/// How deep devices that are kept bound are nested.
const DEPTH: u32 = 3;

/// What is on loan.
enum Loan<'s> {
    Memory(Memory<&'s pci::Device>),
    Table(Sgl<&'s pci::Device>),
    Mapped(MappedSgl<'s, &'s pci::Device>),
    /// A mapping of what does not borrow from the scope itself.
    Owned(MappedSgl<'s, ARef<pci::Device>>),
}

/// Devices that are kept bound.
struct Scope<'s> {
    pool: Option<Pool<'s>>,
    client: Client<'s>,
    loans: KVec<Loan<'s>>,
}

fn direction(bits: u8) -> DataDirection {
    match bits % 16 {
        0 => DataDirection::None,
        1..5 => DataDirection::ToDevice,
        5..10 => DataDirection::FromDevice,
        _ => DataDirection::Bidirectional,
    }
}

impl Machine<'_> {
    /// Keeps devices bound for the steps that follow.
    pub(crate) fn enter(&mut self, step: Step, outer: Option<Pool<'_>>, depth: u32) -> Result {
        let dev = function(step.n)?;
        // Who waits must hold nothing that unbinding waits for.
        let waits = depth == 0 && self.held.is_empty();

        if depth == DEPTH {
            return Err(E2BIG);
        }
        match step.op {
            Op::Both => {
                let client = function(self.next().ok_or(EINVAL)?.n)?;
                let run = |machine: &mut Self, provider: &BoundDevice, client: &BoundDevice| {
                    machine.scope(Some(Pool::of(provider)?), client.client()?, depth)
                };

                if waits {
                    BoundDevice::with_both(dev.as_ref(), client.as_ref(), |provider, client| {
                        run(self, provider, client)
                    })
                } else {
                    BoundDevice::try_with(dev.as_ref(), |provider| {
                        BoundDevice::try_with(client.as_ref(), |client| run(self, provider, client))
                    })
                }
            }
            _ => {
                let run = |machine: &mut Self, bound: &BoundDevice| {
                    let own = Pool::of(bound).ok();
                    let pool = if step.a % 2 == 0 {
                        outer.or(own)
                    } else {
                        own.or(outer)
                    };

                    machine.scope(pool, bound.client()?, depth)
                };

                if waits {
                    BoundDevice::with(dev.as_ref(), |bound| run(self, bound))
                } else {
                    BoundDevice::try_with(dev.as_ref(), |bound| run(self, bound))
                }
            }
        }
    }

    /// Runs steps up to the end of the scope.
    fn scope(&mut self, pool: Option<Pool<'_>>, client: Client<'_>, depth: u32) -> Result {
        let mut scope = Scope {
            pool,
            client,
            loans: KVec::new(),
        };

        while let Some(step) = self.next() {
            let result = match step.op {
                Op::End => {
                    self.count(Op::End, Ok(()));
                    break;
                }
                Op::Bound | Op::Both => self.enter(step, pool, depth + 1),
                Op::Alloc
                | Op::AllocSgl
                | Op::Map
                | Op::Unmap
                | Op::MapManaged
                | Op::IntoManaged
                | Op::Probe
                | Op::Return
                | Op::GatherLoan
                | Op::IoLoan => scope.step(self, step),
                _ => self.step(step),
            };

            self.count(step.op, result);
        }
        Ok(())
    }
}

impl Scope<'_> {
    fn step(&mut self, machine: &mut Machine<'_>, step: Step) -> Result {
        let on_loan = step.b % 2 == 1;

        match step.op {
            Op::Alloc => {
                let pool = self.pool.ok_or(ENODEV)?;
                // CAST: 32 bits to 64.
                let size = step.n as usize;

                if on_loan {
                    self.loans
                        .push(Loan::Memory(pool.alloc(size)?), GFP_KERNEL)?;
                } else {
                    machine
                        .held
                        .put(step.a, Object::Memory(pool.alloc_owned(size)?));
                }
            }
            Op::AllocSgl => {
                let pool = self.pool.ok_or(ENODEV)?;

                if on_loan {
                    self.loans
                        .push(Loan::Table(pool.alloc_sgl(step.n)?), GFP_KERNEL)?;
                } else {
                    machine
                        .held
                        .put(step.a, Object::Table(pool.alloc_sgl_owned(step.n)?));
                }
            }
            Op::Map if on_loan => return self.map_loan(step),
            Op::Map => return self.map_owned(machine, step),
            Op::Unmap => return self.unmap(machine, step),
            Op::MapManaged => {
                let table = self.table(machine, step)?;
                let own = self.is_own(table.device());
                let mapped = table.map_devres(self.client, direction(step.c))?;

                machine.held.put(step.a, Object::Managed(mapped, own));
            }
            Op::IntoManaged => {
                let mapped = match self.loans.pop() {
                    Some(Loan::Owned(mapped)) => mapped,
                    Some(other) => {
                        self.loans.push(other, GFP_KERNEL)?;
                        return Err(EINVAL);
                    }
                    None => return Err(ENOENT),
                };
                let own = self.is_own(mapped.table().device());

                match mapped.into_devres() {
                    Ok(mapped) => machine.held.put(step.a, Object::Managed(mapped, own)),
                    Err(not_managed) => {
                        if let Some(mapped) = not_managed.mapped {
                            self.loans.push(Loan::Owned(mapped), GFP_KERNEL)?;
                        }
                        return Err(not_managed.error);
                    }
                }
            }
            Op::Probe => {
                if MapType::probe(self.pool.ok_or(ENODEV)?, self.client)? == MapType::NotSupported {
                    return Err(EOPNOTSUPP);
                }
            }
            Op::Return => drop(self.loans.pop().ok_or(ENOENT)?),
            Op::GatherLoan => {
                let mut memory = KVec::with_capacity(2, GFP_KERNEL)?;

                for _ in 0..2 {
                    match self.loans.pop() {
                        Some(Loan::Memory(piece)) => memory.push(piece, GFP_KERNEL)?,
                        Some(other) => {
                            self.loans.push(other, GFP_KERNEL)?;
                            break;
                        }
                        None => break,
                    }
                }
                self.loans
                    .push(Loan::Table(Sgl::gather(memory)?), GFP_KERNEL)?;
            }
            Op::IoLoan => match self.loans.last() {
                Some(Loan::Table(table)) => {
                    return transfer(
                        machine.disk,
                        machine.position,
                        step,
                        core::iter::once(table),
                    );
                }
                Some(Loan::Mapped(mapped)) => look_at_table(mapped.table())?,
                _ => return Err(ENOENT),
            },
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// Whether the client is the provider itself; not a disk, which stays what it is.
    fn is_own(&self, provider: &pci::Device) -> bool {
        core::ptr::eq(self.client.device(), provider.as_ref())
            && provider.pci_class() != pci::Class::STORAGE_EXPRESS
    }

    /// The list in slot `a`.
    fn table(&self, machine: &Machine<'_>, step: Step) -> Result<Sgl<ARef<pci::Device>>> {
        match machine.held.take(step.a) {
            Some(Object::Table(table)) => Ok(table),
            Some(other) => {
                machine.held.put(step.a, other);
                Err(EINVAL)
            }
            None => Err(ENOENT),
        }
    }

    fn map_loan(&mut self, step: Step) -> Result {
        let table = match self.loans.pop() {
            Some(Loan::Table(table)) => table,
            Some(other) => {
                self.loans.push(other, GFP_KERNEL)?;
                return Err(EINVAL);
            }
            None => return Err(ENOENT),
        };

        match table.try_map(self.client, direction(step.c)) {
            Ok(mapped) => {
                if mapped.iter().count() == 0 {
                    return Err(WRONG);
                }
                self.loans.push(Loan::Mapped(mapped), GFP_KERNEL)?;
                Ok(())
            }
            Err(not_mapped) => {
                self.loans.push(Loan::Table(not_mapped.table), GFP_KERNEL)?;
                Err(not_mapped.error)
            }
        }
    }

    fn map_owned(&mut self, machine: &Machine<'_>, step: Step) -> Result {
        match self
            .table(machine, step)?
            .try_map(self.client, direction(step.c))
        {
            Ok(mapped) => {
                let _ = mapped.iter().all(|entry| entry.is_bus_address());

                self.loans.push(Loan::Owned(mapped), GFP_KERNEL)?;
                Ok(())
            }
            Err(not_mapped) => {
                machine.held.put(step.a, Object::Table(not_mapped.table));
                Err(not_mapped.error)
            }
        }
    }

    fn unmap(&mut self, machine: &Machine<'_>, step: Step) -> Result {
        match self.loans.pop().ok_or(ENOENT)? {
            Loan::Mapped(mapped) => self
                .loans
                .push(Loan::Table(mapped.unmap()), GFP_KERNEL)
                .map_err(Error::from),
            Loan::Owned(mapped) => {
                machine.held.put(step.a, Object::Table(mapped.unmap()));
                Ok(())
            }
            other => {
                self.loans.push(other, GFP_KERNEL)?;
                Err(EINVAL)
            }
        }
    }
}
