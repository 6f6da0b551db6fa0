// SPDX-License-Identifier: GPL-2.0

//! The kernel in an x86 image, unpacked here and not in the guest: an emulated processor takes more
//! than a second for it, a quarter of the time to the first test.
//!
//! QEMU starts such a kernel at the entry that it has for hypervisors (PVH). What is passed over is
//! the decompressor, which also chooses the kernel's place in memory (KASLR): topologies where that
//! matters say so.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};
use object::Endianness;
use tempfile::NamedTempFile;

use crate::modules::unpack_by_suffix;

/// `XEN_ELFNOTE_PHYS32_ENTRY`: where a hypervisor enters the kernel.
const PHYS32_ENTRY: u32 = 18;

/// How packed kernels begin, and how files are called that are packed in the same way.
const MAGIC: [(&[u8], &str); 3] = [
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x1f\x8b", "gz"),
];

/// Writes the kernel of an image to a file, if it can be unpacked and started without the rest of
/// it. Images of other architectures, and kernels without `CONFIG_PVH`, are booted as they are.
pub fn unpacked(image: &Path) -> Result<Option<NamedTempFile>> {
    let bytes = fs::read(image).with_context(|| image.display().to_string())?;
    let Some(kernel) = payload(&bytes).and_then(unpack).filter(|it| has_entry(it)) else {
        return Ok(None);
    };
    let write = || {
        let mut file = tempfile::Builder::new().prefix("vmtest-").tempfile()?;
        file.write_all(&kernel)?;
        Ok::<_, std::io::Error>(file)
    };
    Ok(Some(write().context("the kernel cannot be unpacked")?))
}

/// The packed kernel: Documentation/arch/x86/boot.rst of the kernel has the header.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let long = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + long(0x248)?;
    image.get(start..start.checked_add(long(0x24c)?)?)
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (_, suffix) = MAGIC.iter().find(|(magic, _)| packed.starts_with(magic))?;
    unpack_by_suffix(packed, suffix).ok()
}

fn has_entry(kernel: &[u8]) -> bool {
    let entry = || {
        let header = FileHeader64::<Endianness>::parse(kernel).ok()?;
        let endian = header.endian().ok()?;
        for segment in header.program_headers(endian, kernel).ok()? {
            let Some(mut notes) = segment.notes(endian, kernel).ok()? else {
                continue;
            };
            while let Some(note) = notes.next().ok()? {
                if note.name() == b"Xen" && note.n_type(endian) == PHYS32_ENTRY {
                    return Some(());
                }
            }
        }
        None
    };
    entry().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::PathBuf;

    /// A kernel with one note.
    fn kernel(name: &[u8; 4], kind: u32) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16] = 2; // ET_EXEC
        elf[18] = 62; // EM_X86_64
        elf[20] = 1;
        elf[32] = 64; // e_phoff
        elf[52] = 64; // e_ehsize
        elf[54] = 56; // e_phentsize
        elf[56] = 1; // e_phnum
        let note = elf.len() as u64;
        elf[64] = 4; // PT_NOTE
        elf[72..80].copy_from_slice(&note.to_le_bytes());
        elf[96..104].copy_from_slice(&20_u64.to_le_bytes()); // p_filesz
        elf[112] = 4; // p_align
        for word in [4, 4, kind] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(name);
        elf.extend([0; 4]);
        elf
    }

    /// An image with such a kernel in it, packed by gzip.
    fn image(kernel: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(kernel).expect("packs");
        let mut packed = packer.finish().expect("packs");
        packed.extend(u32::try_from(kernel.len()).expect("small").to_le_bytes());
        let mut image = vec![0; 2 * 512 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        let length = u32::try_from(packed.len()).expect("small");
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend(packed);
        image
    }

    fn of(image: &[u8]) -> Option<Vec<u8>> {
        let directory = tempfile::tempdir().expect("tempdir");
        let path: PathBuf = directory.path().join("vmlinuz");
        fs::write(&path, image).expect("written");
        let file = unpacked(&path).expect("read")?;
        Some(fs::read(file.path()).expect("is there"))
    }

    #[test]
    fn a_kernel_that_can_be_entered_is_unpacked() {
        let kernel = kernel(b"Xen\0", PHYS32_ENTRY);
        assert_eq!(of(&image(&kernel)), Some(kernel));
    }

    #[test]
    fn others_are_booted_as_they_are() {
        assert_eq!(of(&image(&kernel(b"Xen\0", 6))), None);
        assert_eq!(of(&image(&kernel(b"GNU\0", PHYS32_ENTRY))), None);
        assert_eq!(of(&image(b"no ELF file")), None);
        let good = image(&kernel(b"Xen\0", PHYS32_ENTRY));
        for at in [0, 0x206, 0x250, good.len() - 30] {
            assert_eq!(of(&good[..at]), None, "cut after {at} bytes");
        }
        let mut unknown = good.clone();
        unknown[2 * 512 + 16] = 0;
        assert_eq!(of(&unknown), None);
        let mut arm64 = good;
        arm64[0x202] = 0;
        assert_eq!(of(&arm64), None);
        assert!(unpacked(Path::new("/no/such/image")).is_err());
    }
}
