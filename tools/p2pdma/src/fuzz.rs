// SPDX-License-Identifier: GPL-2.0

//! What others hand over, changed at random: archives, copied trees, texts of lspci, kernel logs.
//! Nothing of it makes the program panic, and nothing of it reaches a terminal as a command.
//!
//! Each takes so many rounds in the unit tests. With `P2PDMA_FUZZ_SECONDS` it takes so long, and
//! says what it did; `P2PDMA_FUZZ_SEED` changes the numbers. What made it panic is kept in a file.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::ask::Answers;
use crate::bdf::Bdf;
use crate::capture::capture;
use crate::kmsg::Log;
use crate::machine::fake::{self, Fake};
use crate::machine::{Machine, Reader};
use crate::source::{self, lspci};
use crate::target::Target;
use crate::text::printable;
use crate::tree::Tree;
use crate::{check, doctor, list, show, topo};

/// Rounds of each in the unit tests.
const ROUNDS: u32 = 150;

/// What means something somewhere.
const WORDS: &[&str] = &[
    "0000:00:01.0",
    "00:1f.7",
    "10000:02:01.0",
    "pci0000:00",
    "../../../..",
    "/etc/passwd",
    "sys/",
    "0x",
    "0xffffffffffffffff",
    "-1",
    "18446744073709551616",
    "\n",
    "\0",
    "\x1b[2J",
    "\u{202e}",
    ";",
    ",",
    "@",
    "=",
    "\"",
    ": ",
    " - ",
    "[8086:154c]",
    "ff ff ff ff",
    "ffffffff",
    "rec0:",
    "dm-0",
    "nvme0n1",
    "pci=disable_acs_redir=",
    "pci=config_acs=x@",
    "DMA-FQ",
    "identity",
    "8.0 GT/s PCIe",
];

/// Lines of a log about all that `doctor` knows.
const LOG: &str = "\
[    0.000000] Kernel command line: pci=config_acs=0x@1:1.0,2:2.0 quiet
[    1.000000] nvme nvme0: pci function 0000:01:00.0
[    1.100000] nvme 0000:01:00.0: added peer-to-peer DMA memory 0xf0000000-0xf3ffffff
[    2.000000] nvme 0000:02:00.0: ACS redirect is set between the client and provider (0000:01:00.0)
[    2.000001] nvme 0000:02:00.0: to disable ACS redirect for this path, add the kernel parameter: \
pci=disable_acs_redir=0000:00:01.0;0000:00:02.0
[    2.000002] nvme 0000:02:00.0: cannot be used for peer-to-peer DMA as the client and provider \
(0000:01:00.0) do not share an upstream bridge or whitelisted host bridge
[    3.000000] pci 0000:00:00.0: Host bridge not in P2PDMA whitelist: 8086:4c43
[    4.000000] DMAR: [DMA Write NO_PASID] Request device [0000:04:00.0] fault addr 0xf0001000 [fault
[    5.000000] AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:04:00.0 domain=0xa address=0xf000 \
flags=0x0]
[    6.000000] Hotplug memory [0x58500000-0x58900000] exceeds maximum addressable range [0x8-0x40]
";

/// Changes bytes, words and lines, and puts pieces of one input into another.
fn mutate(random: &mut ChaCha8Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..random.gen_range(1..12) {
        let at = random.gen_range(0..=bytes.len());
        let piece = |random: &mut ChaCha8Rng, of: &[u8]| {
            let start = random.gen_range(0..=of.len());
            let end = of.len().min(start + random.gen_range(0..600));
            start..end
        };
        match random.gen_range(0..8) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.gen();
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *[0, 0x0a, 0x20, 0x2f, 0x30, 0x7f, 0x80, 0xff]
                        .choose(random)
                        .expect("some");
                }
            }
            3 => {
                let word = WORDS.choose(random).expect("some").as_bytes();
                let end = bytes.len().min(at + word.len());
                // in the place of as much, so that what follows stays where it is, or between
                let range = at..if random.gen() { end } else { at };
                bytes.splice(range, word.iter().copied());
            }
            4 => {
                let range = piece(random, bytes);
                bytes.drain(range);
            }
            5 => {
                let copy = bytes[piece(random, bytes)].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let copy = other[piece(random, other)].to_vec();
                bytes.splice(at..at, copy);
            }
            _ if random.gen_range(0..8) == 0 => bytes.truncate(at),
            _ => (),
        }
    }
    bytes.truncate(1 << 20);
}

/// Tries changed inputs, and those that were taken changed further. `run` says which were.
fn hunt(name: &str, seeds: Vec<Vec<u8>>, run: impl Fn(&[u8]) -> bool) {
    let number = |name: &str| -> Option<u64> {
        let text = env::var(name).ok()?;
        Some(text.parse().expect(name))
    };
    let limit = number("P2PDMA_FUZZ_SECONDS").map(Duration::from_secs);
    let mut random = ChaCha8Rng::seed_from_u64(number("P2PDMA_FUZZ_SEED").unwrap_or(1));
    let (start, mut rounds, mut taken) = (Instant::now(), 0_u32, 0_u32);
    let mut slowest = Duration::ZERO;
    for seed in &seeds {
        assert!(
            run(seed),
            "{name}: the input that others are made of is not taken"
        );
    }
    let mut inputs = seeds.clone();
    while limit.map_or(rounds < ROUNDS, |limit| start.elapsed() < limit) {
        let mut input = inputs.choose(&mut random).expect("some").clone();
        let other = seeds.choose(&mut random).expect("some");
        mutate(&mut random, &mut input, other);
        let begin = Instant::now();
        let Ok(is_taken) = catch_unwind(AssertUnwindSafe(|| run(&input))) else {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build");
            fs::create_dir_all(&path).expect("a directory");
            let path = path.join(format!("fuzz-tool-{name}"));
            fs::write(&path, &input).expect("room");
            panic!(
                "{name}: round {rounds} fails, with what is in {}",
                path.display()
            );
        };
        slowest = slowest.max(begin.elapsed());
        rounds += 1;
        if is_taken {
            taken += 1;
            // some are forgotten, so that all do not become one
            match inputs.len() {
                0..64 => inputs.push(input),
                length => {
                    let at = random.gen_range(0..length);
                    inputs[at] = match random.gen_range(0..4) {
                        0 => seeds.choose(&mut random).expect("some").clone(),
                        _ => input,
                    };
                }
            }
        }
    }
    if limit.is_some() {
        eprintln!("{name}: {rounds} inputs, {taken} taken, the slowest {slowest:.1?}");
    }
}

/// That a text can be printed: there are no characters for a terminal in it but those of styles.
fn is_safe(text: &[u8]) {
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    let mut rest = text.as_str();
    while let Some((plain, after)) = rest.split_once('\x1b') {
        assert_eq!(printable(plain), plain);
        let (style, after) = after.split_once('m').expect("a style");
        let is_style = |c: char| c == ';' || c.is_ascii_digit();
        let numbers = style.strip_prefix('[').expect("a style");
        assert!(numbers.chars().all(is_style), "{style:?}");
        rest = after;
    }
    assert_eq!(printable(rest), rest);
}

/// All that looks at a machine.
fn look_at(machine: &Machine) {
    let printed = |print: &dyn Fn(&mut Vec<u8>) -> io::Result<()>| {
        let mut out = Vec::new();
        print(&mut out).expect("output");
        is_safe(&out);
    };
    printed(&|out| show::text(machine, true, out));
    printed(&|out| show::json(machine, out));
    printed(&|out| list::text(&list::list(machine, None), out));
    let topology = topo::topology(machine, &Log::default(), &Answers::new(), false);
    printed(&|out| topo::text(&topology, out));
    printed(&|out| topo::list(&topology, out));
    printed(&|out| topo::tree(machine, &topology, out));
    printed(&|out| topo::dot(machine, &topology, out));
    let _ = topo::svg(&topology);
    printed(&|out| serde_json::to_writer(out, &topology).map_err(Into::into));

    let ends: Vec<Bdf> = machine.devices.keys().rev().take(4).copied().collect();
    let pairs = ends
        .iter()
        .flat_map(|a| ends.iter().map(move |b| (Some(*a), Some(*b))));
    let alone = ends.iter().map(|a| (None, Some(*a)));
    for (provider, client) in pairs.chain(alone).chain([(None, None)]) {
        let answer = check::answer(machine, provider, client.map(Target::Function));
        printed(&|out| check::text(&answer, out));
        printed(&|out| serde_json::to_writer(out, &answer).map_err(Into::into));
    }
    for name in machine.blocks.keys().take(8) {
        let Ok(target) = crate::target::target(machine, false, name) else {
            continue;
        };
        let answer = check::answer(machine, ends.first().copied(), Some(target));
        printed(&|out| check::text(&answer, out));
    }
}

/// Reads a machine from a tree, makes a capture of it, and reads that.
fn look_at_tree(tree: Tree) -> bool {
    let Ok((machine, record)) = capture(tree) else {
        return false;
    };
    look_at(&machine);
    let mut bytes = Vec::new();
    // a path that is too long for an archive is none of sysfs
    if record.write(&mut bytes).is_ok() {
        let again = Tree::archive(&bytes).expect("an archive");
        assert!(again.and_then(|tree| Reader::of(tree).read()).is_ok());
    }
    !machine.devices.is_empty()
}

fn look_at_archive(bytes: &[u8]) -> bool {
    match Tree::archive(bytes) {
        Some(Ok(tree)) => look_at_tree(tree),
        Some(Err(_)) | None => false,
    }
}

fn fakes() -> [Fake; 4] {
    let stacks = fake::stacks();
    stacks.write("proc/sys/kernel/osrelease", "7.3.4\n");
    stacks.write(
        "proc/cmdline",
        "pci=disable_acs_redir=0000:02:01.0;00:01.0/00.0 iommu=pt\n",
    );
    [
        fake::switch(),
        fake::root_ports(Some(0x1d)),
        stacks,
        fake::chain(),
    ]
}

/// What tar makes of a directory.
fn pack(root: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive.append_dir_all("machine", root).expect("room");
    archive.into_inner().expect("room")
}

/// Bytes of archives, compressed or not.
#[test]
fn no_archive_is_harmful() {
    let plain = fakes().map(|fake| pack(fake.root.path()));
    let packed = plain.clone().map(|bytes| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&bytes).expect("room");
        packer.finish().expect("room")
    });
    hunt(
        "archive",
        plain.into_iter().chain(packed).collect(),
        look_at_archive,
    );
}

/// Between two entries of a tree; none of the configuration spaces has it.
const NEXT: u8 = 0x1e;

/// The entries of a tree, one after the other: the path, what it is, and what is in it.
fn lines_of(root: &Path, dir: &Path, lines: &mut Vec<u8>) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .expect("it")
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .strip_prefix(root)
            .expect("inside")
            .to_string_lossy()
            .into_owned();
        if path.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            lines.extend(format!("{name}\tl\t{}\x1e", target.display()).bytes());
        } else if path.is_dir() {
            lines.extend(format!("{name}\td\t\x1e").bytes());
            lines_of(root, &path, lines);
        } else {
            lines.extend(format!("{name}\tf\t").bytes());
            lines.extend(fs::read(&path).expect("a file"));
            lines.push(NEXT);
        }
    }
}

/// The archive of a tree that is written like that, as far as tar takes it.
fn tree_of(lines: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for line in lines.split(|byte| *byte == NEXT) {
        let mut parts = line.splitn(3, |byte| *byte == b'\t');
        let (Some(path), Some(kind), Some(content)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let path = String::from_utf8_lossy(path).into_owned();
        let mut header = tar::Header::new_gnu();
        // what tar itself refuses is in the other hunt
        let _ = match kind {
            b"l" => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                let target = String::from_utf8_lossy(content).into_owned();
                archive.append_link(&mut header, path, target)
            }
            b"d" => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                archive.append_data(&mut header, path, io::empty())
            }
            _ => {
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, path, content)
            }
        };
    }
    archive.into_inner().expect("room")
}

/// Trees as hwloc copies them, with other files, contents and links.
#[test]
fn no_tree_is_harmful() {
    let seeds = fakes().map(|fake| {
        let mut lines = Vec::new();
        lines_of(fake.root.path(), fake.root.path(), &mut lines);
        lines
    });
    hunt("tree", seeds.into(), |lines| {
        look_at_archive(&tree_of(lines))
    });
}

/// What lspci prints, or something like it.
#[test]
fn no_text_of_lspci_is_harmful() {
    let lengths = [64, 256, 512, 4096];
    let seeds = lengths.map(|length| source::tests::machine_text(length).into_bytes());
    hunt("lspci", seeds.into(), |bytes| {
        let machine = lspci(&String::from_utf8_lossy(bytes));
        look_at(&machine);
        !machine.devices.is_empty()
    });
    // bridges that claim each other's bus
    let names: BTreeMap<_, _> = [("01:00.0", 2), ("02:00.0", 1)].into();
    let machine = lspci(&source::tests::bridges(&names));
    assert_eq!(machine.devices.len(), 2);
    look_at(&machine);
}

/// Logs, and what is made of them.
#[test]
fn no_log_is_harmful() {
    let machine = fake::switch().read();
    hunt("log", vec![LOG.into()], |bytes| {
        let log = Log::of(&String::from_utf8_lossy(bytes));
        let found = doctor::diagnose(&log);
        let mut out = Vec::new();
        doctor::text(&found, &mut out).expect("output");
        is_safe(&out);
        is_safe(&serde_json::to_vec(&found).expect("JSON"));
        let topology = topo::topology(&machine, &log, &Answers::new(), true);
        let mut out = Vec::new();
        topo::text(&topology, &mut out).expect("output");
        is_safe(&out);
        found.is_bad()
    });
}
