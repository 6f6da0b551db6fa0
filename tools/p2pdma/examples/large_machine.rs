// SPDX-License-Identifier: GPL-2.0

//! Writes a capture of a made-up machine with so many PCI functions, eight of which are NVMe
//! controllers below switches, to measure what the program costs: `large_machine 1000 FILE`.

use std::fs::File;
use std::io;
use std::process::ExitCode;

use flate2::write::GzEncoder;
use flate2::Compression;
use tar::{Builder, EntryType, Header};

/// Functions on a bus: a port, and what is below it.
const PER_PORT: usize = 8;
/// Ports on a root bus.
const PORTS: usize = 31;

struct Machine(Builder<GzEncoder<File>>);

impl Machine {
    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content)
    }

    /// A function in a directory.
    fn function(&mut self, dir: &str, class: u32, port: bool) -> io::Result<()> {
        let bdf = dir.rsplit('/').next().unwrap_or_default();
        let mut config = vec![0; 4096];
        config[..4].copy_from_slice(&[0x36, 0x1b, 0x10, 0x00]);
        config[0x06] = 0x10;
        config[0x34] = 0x40;
        config[0x40..0x44].copy_from_slice(&[0x10, 0, if port { 0x42 } else { 0x02 }, 0]);
        config[0x4c..0x50].copy_from_slice(&0x0104_u32.to_le_bytes());
        config[0x52..0x54].copy_from_slice(&0x0043_u16.to_le_bytes());
        config[0x100..0x104].copy_from_slice(&0x0001_000d_u32.to_le_bytes());
        self.file(&format!("{dir}/config"), &config)?;
        self.file(&format!("{dir}/vendor"), b"0x1b36\n")?;
        self.file(&format!("{dir}/device"), b"0x0010\n")?;
        self.file(
            &format!("{dir}/class"),
            format!("{class:#08x}\n").as_bytes(),
        )?;
        self.file(&format!("{dir}/numa_node"), b"0\n")?;
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        let link = format!("sys/bus/pci/devices/{bdf}");
        self.0.append_link(&mut header, link, format!("/{dir}"))
    }
}

fn write(functions: usize, file: File) -> io::Result<()> {
    let packer = GzEncoder::new(file, Compression::fast());
    let mut machine = Machine(Builder::new(packer));
    machine.file(
        "proc/cpuinfo",
        b"vendor_id\t: GenuineIntel\nflags\t\t: fpu lm\n",
    )?;
    for index in 0..functions {
        let (port, below) = (index / PER_PORT, index % PER_PORT);
        let (domain, slot) = (port / PORTS, port % PORTS + 1);
        let mut dir = format!("sys/devices/pci{domain:04x}:00/{domain:04x}:00:{slot:02x}.0");
        // as many ends as there are in any machine, so that the pairs are the same
        let is_nvme = below == 1 && port < 8;
        match below {
            0 => machine.function(&dir, 0x06_0400, true)?,
            function => {
                dir.push_str(&format!("/{domain:04x}:{slot:02x}:00.{}", function - 1));
                machine.function(&dir, if is_nvme { 0x01_0802 } else { 0x0c_0330 }, false)?;
            }
        }
    }
    machine.0.into_inner()?.finish()?.sync_all()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, number, path] = &args[..] else {
        eprintln!("Usage: large_machine FUNCTIONS FILE");
        return ExitCode::from(2);
    };
    let written = number
        .parse()
        .map_err(io::Error::other)
        .and_then(|functions| write(functions, File::create(path)?));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("large_machine: {error}");
            ExitCode::from(2)
        }
    }
}
