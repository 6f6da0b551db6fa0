// SPDX-License-Identifier: GPL-2.0

//! Linux 7.2.
//!
//! In the kernel's tree this would not be.

use crate::bindings as helpers;
use core::{
    marker::PhantomData,
    ops::Deref, //
};
use kernel::{
    bindings,
    devres::Devres,
    ffi::c_char,
    io::MmioRaw,
    module_param::ModuleParamAccess,
    pci,
    sync::lock::{
        Backend,
        Lock, //
    }, //
};

/// Error codes.
pub mod code {
    pub use kernel::error::code::*;

    use core::num::NonZero;
    use kernel::{
        bindings,
        error::Error,
        ffi::c_int, //
    };

    /// The error `-errno`.
    const fn error(errno: u32) -> Error {
        // CAST: Codes are small.
        let Some(code) = NonZero::new(-(errno as c_int)) else {
            panic!("no error has the code 0");
        };

        // SAFETY: An `Error` has one field, of this type, and the same size, or this would not be
        // compiled: it is that field. What it asks of its value is to be negative and at least
        // -MAX_ERRNO, which codes from the kernel's headers are.
        unsafe { core::mem::transmute::<NonZero<c_int>, Error>(code) }
    }

    macro_rules! declare {
        ($($name:ident)*) => {
            $(
                #[doc = concat!("`", stringify!($name), "`, as the kernel's headers have it.")]
                pub const $name: Error = error(bindings::$name);
            )*
        };
    }

    declare! {
        EALREADY
        ECANCELED
        ECONNRESET
        EMEDIUMTYPE
        ENODATA
        ENOTCONN
        ENOTRECOVERABLE
        EOPNOTSUPP
        EREMOTEIO
    }
}

/// The io accessors of a region that is mapped for `'a`.
///
/// # Invariants
///
/// The region is mapped for `'a`.
pub struct Mmio<'a> {
    raw: MmioRaw,
    mapped: PhantomData<&'a ()>,
}

impl Mmio<'_> {
    /// Its size in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.raw.maxsize()
    }
}

impl Deref for Mmio<'_> {
    type Target = kernel::io::Mmio;

    #[inline]
    fn deref(&self) -> &Self::Target {
        // SAFETY: The region is mapped while it can be borrowed, by the type invariant.
        unsafe { kernel::io::Mmio::from_raw(&self.raw) }
    }
}

/// The io accessors of `size` bytes at `addr`; [`None`] if one of them is no multiple of 4.
///
/// # Safety
///
/// They are mapped, uncached, and stay so for `'a`.
#[inline]
pub unsafe fn mmio<'a>(addr: usize, size: usize) -> Option<Mmio<'a>> {
    if (addr | size) % 4 != 0 {
        return None;
    }
    // INVARIANT: Mapped for `'a` by the safety requirement.
    Some(Mmio {
        raw: MmioRaw::new(addr, size).ok()?,
        mapped: PhantomData,
    })
}

/// The value of a parameter of a module.
#[inline]
pub fn parameter<T: Copy>(parameter: &ModuleParamAccess<T>) -> T {
    *parameter.value()
}

/// A BAR that is mapped while its device is bound, see [`kernel::pci::Bar::into_devres()`].
pub type DevresBar<const SIZE: usize> = Devres<pci::Bar<'static, SIZE>>;

/// A spinlock that is held with interrupts disabled.
pub type SpinLockIrq<T> = Lock<T, SpinLockIrqBackend>;

/// `spin_lock()` with interrupts disabled. Several locks may be let go in any order: the helpers
/// count them.
pub struct SpinLockIrqBackend;

// SAFETY: A `spinlock_t` has one owner. `relock` is the trait's own, which locks as before.
unsafe impl Backend for SpinLockIrqBackend {
    type State = bindings::spinlock_t;
    type GuardState = ();

    #[inline]
    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The safety requirements are the same.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: The lock was initialised, by the safety requirement.
        unsafe { helpers::p2pdma_helper_spin_lock_irq(ptr) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        // SAFETY: The lock was initialised, by the safety requirement.
        unsafe { helpers::p2pdma_helper_spin_trylock_irq(ptr) }.then_some(())
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, _guard_state: &Self::GuardState) {
        // SAFETY: The caller owns the lock, by the safety requirement.
        unsafe { helpers::p2pdma_helper_spin_unlock_irq(ptr) }
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The lock was initialised, by the safety requirement.
        unsafe { bindings::spin_assert_is_held(ptr) }
    }
}

/// Initialises a [`SpinLockIrq`](crate::compat::SpinLockIrq) that lockdep knows by `$name`.
#[macro_export]
macro_rules! new_spinlock_irq {
    ($inner:expr, $name:literal) => {
        $crate::compat::SpinLockIrq::new(
            $inner,
            ::kernel::c_str!($name),
            ::kernel::static_lock_class!(),
        )
    };
}

/// What `probe()` is told of the device's id.
///
/// Here it is one of the driver's also if the device was bound through `driver_override`: the first
/// of its table, which must not be empty.
pub type IdInfo<'a, T> = &'a T;

/// `kernel::pci_device_table!()` for drivers without information about ids.
///
/// A table without ids, of a driver that is bound through `driver_override` only, gets one that no
/// device has, see [`IdInfo`](crate::compat::IdInfo).
#[macro_export]
macro_rules! pci_device_table {
    ($name:ident, $info:ty, []) => {
        $crate::pci_device_table!(
            $name,
            $info,
            [(
                // 0xffff is what reads where there is no device.
                ::kernel::pci::DeviceId::from_id(::kernel::pci::Vendor::REDHAT, 0xffff),
                ()
            )]
        );
    };
    ($name:ident, $info:ty, $ids:expr) => {
        const $name: ::kernel::device_id::IdArray<::kernel::pci::DeviceId, $info, { $ids.len() }> =
            ::kernel::device_id::IdArray::new($ids);

        // In a scope of its own, so that a module can have several.
        const _: () = {
            ::kernel::module_device_table!("pci", MODULE_TABLE, $name);
        };
    };
}
