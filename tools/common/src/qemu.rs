// SPDX-License-Identifier: GPL-2.0

//! What the command lines of all guests have in common.

use std::fs::{self, File};
use std::path::Path;
use std::sync::OnceLock;

use crate::Arch;

/// Software that runs guests, each of their processors in a thread of its own.
const EMULATION: &str = "tcg,thread=multi";

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
        EMULATION
    }
}

/// What kernels are told on their command line of the machine that [`accelerator`], or whatever
/// else `-accel` names, makes of this one.
pub fn kernel_parameters(arch: Arch, accelerator: &str) -> String {
    let mut parameters = arch.names().emulated.to_owned();
    // The time stamp counter of an emulated processor is this machine's. Kernels count it against a
    // timer, which goes on while a busy machine keeps the processor waiting. Of 74 guests on two
    // processors, 14 at a time and beside four busy threads, one took it for a 41st of what it is:
    // its clock was as much too fast, and the limits of its tests were over at once.
    if accelerator == EMULATION && arch == Arch::X86_64 && arch.is_host() {
        static KHZ: OnceLock<Option<u64>> = OnceLock::new();
        if let Some(khz) = KHZ.get_or_init(counter_khz) {
            parameters += &format!(" tsc_early_khz={khz}");
        }
    }
    parameters
}

/// How fast this machine's time stamp counter is, unless it has none that always goes as fast.
fn counter_khz() -> Option<u64> {
    let nanoseconds = quanta::Clock::new().delta_as_nanos(0, TICKS);
    // Without such a counter, quanta counts nanoseconds.
    khz_of(nanoseconds).filter(|_| nanoseconds != TICKS)
}

/// Many enough that rounding does not count.
const TICKS: u64 = 10_000_000_000;

/// How fast a counter is that takes so long for [`TICKS`].
fn khz_of(nanoseconds: u64) -> Option<u64> {
    (TICKS * 1_000_000).checked_div(nanoseconds)
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

    #[test]
    fn counters_are_counted() {
        assert_eq!(khz_of(TICKS), Some(1_000_000));
        assert_eq!(khz_of(TICKS * 10 / 23), Some(2_300_000));
        assert_eq!(khz_of(0), None);
    }

    #[test]
    fn the_counter_is_told_to_those_who_see_it() {
        let told =
            |arch, accelerator| kernel_parameters(arch, accelerator).contains("tsc_early_khz=");
        let knows = Arch::HOST == Arch::X86_64 && counter_khz().is_some();
        assert_eq!(told(Arch::X86_64, EMULATION), knows);
        for other in ["kvm", "tcg,thread=single"] {
            assert!(!told(Arch::X86_64, other), "{other}");
        }
        assert!(!told(Arch::Arm64, EMULATION));
    }
}
