// SPDX-License-Identifier: GPL-2.0

//! What the command lines of all guests have in common.

use std::fs::{self, File};
use std::path::Path;

use crate::Arch;

/// Nothing that is not asked for, no window, and no guest that outlives whoever started it.
pub const BASE: [&str; 7] = [
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-run-with",
    "exit-with-parent=on",
];

/// Doubles commas, which separate properties on QEMU's command line.
pub fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

/// A file, as a property.
pub fn path(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// The argument of `-drive` for a disk that is a file. Nothing on it outlives the guest, so nothing
/// has to reach the machine's own disk.
pub fn drive(id: &str, file: &Path) -> String {
    let file = path(file);
    format!("if=none,id={id},format=raw,cache=unsafe,file={file}")
}

/// What runs guests of an architecture: the processor where it can, software where it cannot.
pub fn accelerator(arch: Arch) -> &'static str {
    if arch.is_host() && has_kvm() {
        "kvm"
    } else {
        "tcg,thread=multi"
    }
}

fn has_kvm() -> bool {
    let opens = || File::options().read(true).write(true).open("/dev/kvm");
    // The device can exist, and open, where no ordinary guest runs; the flag tells the truth.
    // No processor of ARM's has such a flag.
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let able = flags
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| {
            line.split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        });
    (able || Arch::HOST == Arch::Arm64) && opens().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_are_doubled() {
        let drive = drive("d", Path::new("/a,b"));
        assert_eq!(drive, "if=none,id=d,format=raw,cache=unsafe,file=/a,,b");
    }
}
