// SPDX-License-Identifier: GPL-2.0

//! The architectures that kernels are built for and guests run on, and what differs by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An architecture, by the kernel's name for it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Arm64,
}

/// What an architecture calls things.
#[derive(Debug)]
pub struct Names {
    /// The kernel's name, as in `ARCH=`.
    pub kernel: &'static str,
    /// The option that its kernels have.
    pub config: &'static str,
    /// What GNU calls it, as in the names of compilers and of library directories.
    pub triple: &'static str,
    /// What is made and booted, in a build tree; the first that is there counts.
    pub images: &'static [&'static str],
    /// What makes it.
    pub image_target: &'static str,
    /// QEMU for it.
    pub qemu: &'static str,
    /// The guest's console.
    pub console: &'static str,
    /// What its kernels are told of a machine that is emulated; may be empty.
    pub emulated: &'static str,
    /// `e_machine` of its programs, and `Machine` of its EFI images.
    pub efi_machine: u16,
    /// Where programs for its guests are, on a machine of another architecture.
    pub guest_root: &'static str,
}

const X86_64: Names = Names {
    kernel: "x86_64",
    config: "X86_64",
    triple: "x86_64-linux-gnu",
    images: &["arch/x86/boot/bzImage"],
    image_target: "bzImage",
    qemu: "qemu-system-x86_64",
    console: "ttyS0,115200",
    // Else a kernel whose processor gets no time while it counts ticks panics: "IO-APIC + timer
    // doesn't work!". Page table isolation hides what an emulated processor does not leak, and
    // takes a fifth of the time on models of Intel's; tests of ciphers take half a second of each
    // boot.
    emulated: "no_timer_check pti=off cryptomgr.notests",
    efi_machine: 0x8664,
    guest_root: "/guest/amd64",
};

const ARM64: Names = Names {
    kernel: "arm64",
    config: "ARM64",
    triple: "aarch64-linux-gnu",
    images: &["arch/arm64/boot/Image.gz", "arch/arm64/boot/Image"],
    image_target: "Image.gz",
    qemu: "qemu-system-aarch64",
    console: "ttyAMA0",
    emulated: "",
    efi_machine: 0xaa64,
    guest_root: "/guest/arm64",
};

impl Arch {
    /// All that are supported.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Arm64];

    /// The architecture of this machine.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") {
        Self::Arm64
    } else {
        Self::X86_64
    };

    /// What it calls things.
    pub fn names(self) -> &'static Names {
        match self {
            Self::X86_64 => &X86_64,
            Self::Arm64 => &ARM64,
        }
    }

    /// Whether it is that of this machine.
    pub fn is_host(self) -> bool {
        self == Self::HOST
    }

    /// The architecture that a bootable kernel image is for; 64 KiB from its start are enough.
    pub fn of_image(image: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
        if image.starts_with(b"MZ") {
            let header = usize::try_from(long(0x3c)?).ok()?;
            if image.get(header..header.checked_add(4)?) == Some(b"PE\0\0") {
                let machine = word(header + 4)?;
                return Self::ALL
                    .into_iter()
                    .find(|arch| arch.names().efi_machine == machine);
            }
        }
        if image.get(0x202..0x206) == Some(b"HdrS") {
            return Some(Self::X86_64);
        }
        (image.get(0x38..0x3c) == Some(b"ARM\x64")).then_some(Self::Arm64)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_they_are_read() {
        for arch in Arch::ALL {
            let text = serde_json::to_string(&arch).expect("written");
            assert_eq!(text, format!("\"{arch}\""));
            assert_eq!(serde_json::from_str::<Arch>(&text).expect("read"), arch);
        }
    }

    #[test]
    fn images_are_told_apart() {
        let mut efi = vec![0; 0x80];
        efi[..2].copy_from_slice(b"MZ");
        efi[0x3c] = 0x40;
        efi[0x40..0x44].copy_from_slice(b"PE\0\0");
        efi[0x44..0x46].copy_from_slice(&0xaa64_u16.to_le_bytes());
        assert_eq!(Arch::of_image(&efi), Some(Arch::Arm64));
        efi[0x44..0x46].copy_from_slice(&0x8664_u16.to_le_bytes());
        assert_eq!(Arch::of_image(&efi), Some(Arch::X86_64));
        efi[0x44] = 0;
        assert_eq!(Arch::of_image(&efi), None);
        efi[0x3c..0x40].fill(0xff);
        assert_eq!(Arch::of_image(&efi), None);

        let mut plain = vec![0; 0x300];
        assert_eq!(Arch::of_image(&plain), None);
        plain[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert_eq!(Arch::of_image(&plain), Some(Arch::Arm64));
        plain[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(Arch::of_image(&plain), Some(Arch::X86_64));
        assert_eq!(Arch::of_image(b"MZ"), None);
        assert_eq!(Arch::of_image(b""), None);
    }
}
