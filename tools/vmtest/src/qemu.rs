// SPDX-License-Identifier: GPL-2.0

//! QEMU's command line for a topology.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use p2pdma_common::{qemu, Arch};

use crate::kernel::Kernel;
use crate::topology::Topology;

/// What every guest's kernel is told. Warnings must reach the console, a guest that dies must end.
///
/// A guest whose processors get no time for half a minute, beside other work, has no defect: the
/// kernel's own limits are for others. What hangs is ended by the limits of the tests.
const CMDLINE: &str = "rdinit=/init panic=-1 oops=panic printk.devkmsg=on random.trust_cpu=on \
    watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300 \
    sysctl.kernel.hung_task_timeout_secs=600";

/// Where the guest's console and port go.
#[derive(Debug)]
pub enum Wiring<'a> {
    /// To these files.
    Files {
        /// The console.
        console: &'a Path,
        /// The port.
        port: &'a Path,
    },
    /// To the terminal.
    Terminal,
}

/// What runs the guest: the processor where it can, software where it cannot or shall not.
pub fn accelerator(topology: &Topology, arch: Arch) -> &'static str {
    if topology.icount.is_some() {
        "tcg,thread=single"
    } else {
        qemu::accelerator(arch)
    }
}

/// Builds the command line. Media for the devices are made in `directory`.
pub fn command(
    program: &Path,
    topology: &Topology,
    kernel: &Kernel,
    image: &Path,
    initramfs: &Path,
    directory: &Path,
    wiring: &Wiring<'_>,
) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .args(qemu::BASE)
        .args(["-accel", accelerator(topology, kernel.arch)])
        .args(["-machine", &topology.machine])
        .args(["-cpu", &topology.cpu])
        .args(["-m", &topology.memory])
        .args(["-smp", &topology.smp])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs);
    let loglevel = match wiring {
        Wiring::Files { .. } => 7,
        Wiring::Terminal => 4,
    };
    let loglevel = format!("loglevel={loglevel}");
    let terminal = format!("console={}", kernel.arch.names().console);
    let machine = qemu::kernel_parameters(kernel.arch, accelerator(topology, kernel.arch));
    let words = [
        &*terminal,
        CMDLINE,
        &machine,
        &loglevel,
        &kernel.check.cmdline,
        &topology.cmdline,
    ];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    command.args(["-append", &words.join(" ")]);
    match wiring {
        Wiring::Files { console, port } => {
            for (id, file) in [("console", console), ("port", port)] {
                let chardev = format!("file,id={id},append=on,path={}", qemu::path(file));
                command.args(["-chardev", &chardev, "-serial", &format!("chardev:{id}")]);
            }
        }
        Wiring::Terminal => {
            // Ctrl-A X ends it, Ctrl-C goes to the guest.
            command.args(["-serial", "mon:stdio", "-serial", "null"]);
        }
    }
    if let Some(icount) = &topology.icount {
        command.args(["-icount", icount]);
    }
    command.args(devices(topology, directory)?);
    Ok(command)
}

/// The options for what the topology has beside processors and memory. Media for the devices are
/// made in `directory`.
pub fn devices(topology: &Topology, directory: &Path) -> Result<Vec<String>> {
    let mut options = Vec::new();
    let mut add = |option: &str, value: &str| {
        options.extend([option.to_owned(), value.to_owned()]);
    };
    for object in &topology.objects {
        add("-object", object);
    }
    for global in &topology.globals {
        add("-global", global);
    }
    for numa in &topology.numa {
        add("-numa", numa);
    }
    for (number, device) in topology.devices.iter().enumerate() {
        let mut argument = device.argument();
        if let Some(size) = &device.drive {
            let medium = medium(directory, number, size)?;
            let id = format!("medium{number}");
            add("-drive", &qemu::drive(&id, &medium));
            argument += &format!(",drive={id}");
        }
        add("-device", &argument);
    }
    Ok(options)
}

/// Makes a blank medium; it takes no room until it is written to.
fn medium(directory: &Path, number: usize, size: &str) -> Result<PathBuf> {
    let path = directory.join(format!("medium{number}"));
    let bytes = parse_size(size).with_context(|| {
        format!("drive = \"{size}\": a size is a number and K, M or G, as in \"64M\"")
    })?;
    File::create(&path)
        .and_then(|file| file.set_len(bytes))
        .with_context(|| path.display().to_string())?;
    Ok(path)
}

/// `64M` in bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

/// The command line as a shell takes it.
pub fn shell_words(command: &Command) -> String {
    quoted(std::iter::once(command.get_program()).chain(command.get_args()))
}

/// Words as a shell takes them.
pub fn quoted<T: AsRef<OsStr>>(words: impl Iterator<Item = T>) -> String {
    words
        .map(|word| {
            let word = word.as_ref().to_string_lossy();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=.,:/+".contains(&byte);
            if !word.is_empty() && word.bytes().all(plain) {
                word.into_owned()
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use p2pdma_common::Check;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64M"), Some(64 << 20));
        assert_eq!(parse_size("512"), Some(512));
        assert_eq!(parse_size("2G"), Some(2 << 30));
        for wrong in ["", "M", "0", "-1M", "1T", "64 M", "99999999999999999G", "é"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_topology_becomes_a_command_line() {
        let topology = Topology::parse(
            r#"
            name = "t"
            description = ""
            cpu = "EPYC"
            cmdline = "iommu=pt"
            objects = ["memory-backend-ram,id=m,size=1M"]
            globals = ["ICH9-LPC.smm-enabled=off"]
            devices = [{ driver = "nvme", serial = "a", drive = "1M" }]
            "#,
        )
        .expect("parses");
        let directory = tempfile::tempdir().expect("tempdir");
        let kernel = Kernel {
            flavour: "f".into(),
            release: "1".into(),
            arch: Arch::X86_64,
            image: "/k".into(),
            modules: BTreeMap::new(),
            builtin: BTreeSet::new(),
            check: Check {
                cmdline: "no5lvl".into(),
                ..Check::default()
            },
        };
        let command = command(
            Path::new("qemu"),
            &topology,
            &kernel,
            &kernel.image,
            Path::new("/i"),
            directory.path(),
            &Wiring::Files {
                console: Path::new("/c,1"),
                port: Path::new("/p"),
            },
        )
        .expect("builds");
        let words = shell_words(&command);
        for part in [
            "-cpu EPYC",
            "hung_task_timeout_secs=600 no_timer_check",
            " loglevel=7 no5lvl iommu=pt'",
            "-object memory-backend-ram,id=m,size=1M",
            "-chardev file,id=console,append=on,path=/c,,1 -serial chardev:console",
            "-global ICH9-LPC.smm-enabled=off",
            "-device nvme,serial=a,drive=medium0",
            "exit-with-parent=on",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(!words.contains("-icount"), "{words}");
        let medium = directory.path().join("medium0");
        assert_eq!(medium.metadata().expect("is there").len(), 1 << 20);
    }
}
