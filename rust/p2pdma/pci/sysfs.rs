// SPDX-License-Identifier: GPL-2.0

//! Groups of sysfs attributes of a device, for drivers.
//!
//! Not about peer-to-peer DMA: here until the kernel crate has an abstraction of its own.
//!
//! C header: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)
//!
//! # Examples
//!
//! ```ignore
#![doc = include_str!("../examples/sysfs.rs")]
//! ```
//!
//! In the kernel's tree this would be `rust/kernel/sysfs.rs`, of the maintainers of the driver
//! core.

use crate::{
    bindings as helpers,
    raw, //
};
use core::fmt::{
    self,
    Write as _, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Core,
        Device, //
    },
    devres,
    error::{
        from_result,
        to_result, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

/// An attribute: a file in sysfs that holds one value.
#[derive(Clone, Copy)]
pub struct Attribute {
    name: &'static CStr,
    mode: bindings::umode_t,
}

impl Attribute {
    /// An attribute that everybody may read.
    #[doc(alias = "DEVICE_ATTR_RO")]
    pub const fn ro(name: &'static CStr) -> Self {
        Self { name, mode: 0o444 }
    }

    /// An attribute that everybody may read and root may write.
    #[doc(alias = "DEVICE_ATTR_RW")]
    pub const fn rw(name: &'static CStr) -> Self {
        Self { name, mode: 0o644 }
    }
}

/// Data that are shown, and changed, through a group of attributes.
pub trait Attributes: Sync {
    /// Name of the group, which is a directory below the device's. It begins with the name of the
    /// driver, so that it is none that the kernel has for groups of its own, or for devices below
    /// this one, some of which it adds later: `p2pmem`, by which a [`Pool`](crate::pool::Pool) is
    /// told, `msi_irqs`, `wakeup`.
    const GROUP: &'static CStr;
    /// The attributes of the group.
    const ATTRIBUTES: &'static [Attribute];

    /// Writes the value of `ATTRIBUTES[index]`, without a newline at its end. May sleep.
    ///
    /// # Errors
    ///
    /// Only those of `out`, which takes almost a page. The reader gets `EIO`.
    fn show(&self, index: usize, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Takes what was stored to `ATTRIBUTES[index]`, white space around it removed. May sleep.
    ///
    /// # Errors
    ///
    /// What the writer gets.
    fn store(&self, index: usize, value: &str) -> Result {
        let _ = (index, value);

        Err(EPERM)
    }
}

/// An attribute as the C code sees it, and the way back to the data.
///
/// # Invariants
///
/// - `attr` is that of the attribute `T::ATTRIBUTES[index]` of a [`Group`] of `T`.
/// - `data` points to the data of that group, which stay where they are while it is registered.
#[repr(C)]
struct Slot<T> {
    attr: bindings::device_attribute,
    index: usize,
    data: *const T,
}

/// A group of attributes that is registered, with its data.
///
/// # Invariants
///
/// - `group` refers to `list`, which refers to the attributes in `slots` and ends with NULL. None
///   of them, nor `data`, is changed or moved while the group is registered.
/// - The group is registered with `dev`, which is in sysfs, as long as this exists.
struct Group<T: Attributes> {
    dev: ARef<Device>,
    group: KBox<bindings::attribute_group>,
    #[expect(dead_code, reason = "`group` points to it")]
    list: KVec<*mut bindings::attribute>,
    #[expect(dead_code, reason = "`list` points to it")]
    slots: Slots<T>,
    #[expect(dead_code, reason = "`slots` points to it")]
    data: KBox<T>,
}

/// The attributes of a group, each with a lockdep class of its own: so one whose `store()` waits
/// for a lock does not look like all others.
///
/// # Invariants
///
/// The classes of the attributes are registered.
struct Slots<T>(KVec<Slot<T>>);

impl<T> Slots<T> {
    fn new(mut slots: KVec<Slot<T>>) -> Self {
        for slot in slots.iter_mut() {
            // SAFETY: The attribute is on the heap, where it stays until it is dropped, and is not
            // registered yet.
            unsafe { helpers::p2pdma_helper_sysfs_attr_init(&mut slot.attr.attr) };
        }
        // INVARIANT: Registered just now.
        Self(slots)
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        for slot in self.0.iter_mut() {
            // SAFETY: By the type invariant its class is registered. The group that it was in is
            // removed before this is dropped, so nobody uses it any more.
            unsafe { helpers::p2pdma_helper_sysfs_attr_exit(&mut slot.attr.attr) };
        }
    }
}

// SAFETY: A group can be removed on any thread. `T` is shared with the threads that read and write
// the attributes anyhow, and dropped on the one that drops the group.
unsafe impl<T: Attributes + Send> Send for Group<T> {}

/// Registers a group of attributes below `dev`, until `dev` is unbound. They can be read and
/// written before this returns.
///
/// `Core` is the proof that the caller is the device's driver: what runs when the attributes are
/// read, and when they are removed, is code of the caller's module, which stays until all of its
/// devices are unbound.
///
/// The group is a resource managed by the device, so it is removed before those that were added
/// earlier. It is not handed out: attributes that are still registered when their data are gone
/// would be worse than a leak.
///
/// May sleep.
///
/// # Errors
///
/// - [`EINVAL`] if the name of the group does not begin with that of the driver, or is `p2pmem`,
///   which is the kernel's; or if that, or the
///   name of an attribute, is none: empty, or with a slash in it; or if two attributes have the
///   same.
/// - [`ENOMEM`].
/// - [`EEXIST`] if the device has a group, or a file, of that name.
#[doc(alias = "devm_device_add_group")]
pub fn register<T: Attributes + Send + 'static>(dev: &Device<Core<'_>>, data: T) -> Result {
    if !is_name(T::GROUP) || !T::GROUP.to_bytes().starts_with(driver_name(dev)) {
        return Err(EINVAL);
    }
    // That group says that there is a pool: a driver's name may be the beginning of its name.
    if T::GROUP == c"p2pmem" {
        return Err(EINVAL);
    }
    for (i, attribute) in T::ATTRIBUTES.iter().enumerate() {
        let mut before = T::ATTRIBUTES[..i].iter();

        if !is_name(attribute.name) || before.any(|other| other.name == attribute.name) {
            return Err(EINVAL);
        }
    }
    // The kernel refuses it, too, but with a stack trace in its log. Nobody else has one with the
    // name of this driver.
    //
    // SAFETY: `raw::device()` returns a valid `struct device`, which is bound, and so in sysfs; the
    // name is a C string.
    if unsafe { helpers::p2pdma_helper_device_has_file(raw::device(dev), T::GROUP.as_char_ptr()) } {
        return Err(EEXIST);
    }

    let group = Group::new(dev, data)?;

    devres::register::<Group<T>, Error>(dev, Ok::<_, Error>(group), GFP_KERNEL)
}

/// The name of the driver of `dev`.
fn driver_name<'a>(dev: &'a Device<Core<'_>>) -> &'a [u8] {
    // SAFETY: `raw::device()` returns a valid `struct device`. `Core` is the proof that its driver
    // has been called for it, so there is one, which stays while it is; it has a name.
    unsafe { CStr::from_char_ptr((*(*raw::device(dev)).driver).name) }.to_bytes()
}

/// Whether it can be the name of a file.
fn is_name(name: &CStr) -> bool {
    !name.to_bytes().is_empty() && !name.to_bytes().contains(&b'/')
}

impl<T: Attributes> Group<T> {
    /// Registers the attributes below `dev`.
    fn new(dev: &Device<Bound>, data: T) -> Result<Self> {
        let data = KBox::new(data, GFP_KERNEL)?;
        let mut slots = KVec::with_capacity(T::ATTRIBUTES.len(), GFP_KERNEL)?;
        let mut list = KVec::with_capacity(T::ATTRIBUTES.len() + 1, GFP_KERNEL)?;

        for (index, attribute) in T::ATTRIBUTES.iter().enumerate() {
            let mut attr = bindings::device_attribute::default();

            attr.attr.name = attribute.name.as_char_ptr();
            attr.attr.mode = attribute.mode;
            attr.__bindgen_anon_1.show = Some(show::<T>);
            attr.__bindgen_anon_2.store = Some(store::<T>);
            // INVARIANT: This becomes part of the group below, and `data` is boxed.
            slots.push(
                Slot {
                    attr,
                    index,
                    data: &*data,
                },
                GFP_KERNEL,
            )?;
        }
        let mut slots = Slots::new(slots);

        for slot in slots.0.iter_mut() {
            // A pointer to the whole slot, of which the attribute is the first field: the
            // trampolines go back from the one to the other.
            list.push(core::ptr::from_mut(slot).cast(), GFP_KERNEL)?;
        }
        list.push(core::ptr::null_mut(), GFP_KERNEL)?;

        let mut group = KBox::new(bindings::attribute_group::default(), GFP_KERNEL)?;
        group.name = T::GROUP.as_char_ptr();
        group.__bindgen_anon_2.attrs = list.as_mut_ptr();

        // SAFETY:
        // - `dev` is a valid device that is bound, so it is in sysfs.
        // - The group, the list, the slots and the data are on the heap, and are freed only after
        //   the group was removed: see `drop()`.
        to_result(unsafe { bindings::sysfs_create_group(kobj(dev), &*group) })?;

        // INVARIANT: As set up above; moving the owners does not move what they own.
        let dev: &Device = dev;
        Ok(Self {
            dev: dev.into(),
            group,
            list,
            slots,
            data,
        })
    }
}

impl<T: Attributes> Drop for Group<T> {
    fn drop(&mut self) {
        // Waits for the calls of `show()` and `store()` that are under way; there are none after.
        //
        // SAFETY: By the type invariant the group is registered with this device.
        unsafe { bindings::sysfs_remove_group(kobj(&self.dev), &*self.group) };
    }
}

fn kobj(dev: &Device) -> *mut bindings::kobject {
    // SAFETY: `raw::device()` returns a valid `struct device`, so the field is in bounds.
    unsafe { &raw mut (*raw::device(dev)).kobj }
}

/// # Safety
///
/// To be called by sysfs only, for an attribute of a [`Group`] of `T`.
unsafe extern "C" fn show<T: Attributes>(
    _dev: *mut bindings::device,
    attr: *mut bindings::device_attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: By the invariants of `Slot` and `Group`, `attr` is the first field of a slot, which,
    // with the data, stays valid until `sysfs_remove_group()` returns, which waits for this call.
    let (slot, data) = unsafe {
        let slot = &*attr.cast::<Slot<T>>();
        (slot, &*slot.data)
    };
    // SAFETY: sysfs passes a zeroed page that nobody else refers to.
    let page = unsafe { &mut *buf.cast::<[u8; PAGE_SIZE]>() };

    from_result(|| {
        // The kernel warns if all of it is used.
        let mut out = kernel::str::Formatter::new(&mut page[..PAGE_SIZE - 1]);

        data.show(slot.index, &mut out).map_err(|_| EIO)?;
        out.write_str("\n").map_err(|_| EIO)?;
        // CAST: At most a page.
        Ok(out.bytes_written() as isize)
    })
}

/// # Safety
///
/// To be called by sysfs only, for an attribute of a [`Group`] of `T`.
unsafe extern "C" fn store<T: Attributes>(
    _dev: *mut bindings::device,
    attr: *mut bindings::device_attribute,
    buf: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: As in `show()`.
    let (slot, data) = unsafe {
        let slot = &*attr.cast::<Slot<T>>();
        (slot, &*slot.data)
    };
    // SAFETY: sysfs passes `count` bytes that nobody changes during the call.
    let value = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), count) };

    from_result(|| {
        let value = core::str::from_utf8(value).map_err(|_| EINVAL)?;

        data.store(slot.index, value.trim())?;
        // CAST: At most a page.
        Ok(count as isize)
    })
}

#[kernel::macros::kunit_tests(rust_p2pdma_sysfs)]
mod tests {
    #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
    use super::*;

    /// One class for all attributes makes any two of them look like one that waits for itself.
    #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
    #[test]
    fn each_attribute_has_a_lockdep_class() -> Result {
        let mut slots = KVec::new();

        for index in 0..2 {
            slots.push(
                Slot::<()> {
                    attr: bindings::device_attribute::default(),
                    index,
                    data: core::ptr::null(),
                },
                GFP_KERNEL,
            )?;
        }
        let slots = Slots::new(slots);

        for slot in &slots.0 {
            // Then `skey` counts, which is part of the attribute.
            assert!(slot.attr.attr.key.is_null());
            assert_eq!(slot.attr.attr.ignore_lockdep(), false);
        }
        Ok(())
    }
}
