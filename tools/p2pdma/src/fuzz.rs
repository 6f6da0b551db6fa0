// SPDX-License-Identifier: GPL-2.0

//! What others hand over, changed at random: archives, copied trees, texts of lspci, kernel logs,
//! results of `p2pdma bench`; and the files that tell who uses a device. Nothing of it makes the
//! program panic or hang, and nothing of it reaches a terminal as a command: the program prints its
//! own styles, each of which it ends, and no other characters for a terminal.
//!
//! Each takes so many rounds in the unit tests. With `P2PDMA_FUZZ_SECONDS` it takes so long, and
//! says what it did; `P2PDMA_FUZZ_SEED` changes the numbers. What made it panic, or did not end
//! within `P2PDMA_FUZZ_HANG` seconds, is kept in a file.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

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
use crate::text::{printable, styled, STYLES};
use crate::tree::Tree;
use crate::users::Files;
use crate::{bench, check, doctor, list, show, topo};

/// Rounds of each in the unit tests.
const ROUNDS: u32 = 150;
/// What takes longer hangs: hundreds of times what the slowest took on a busy machine.
const HANG: Duration = Duration::from_secs(600);

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
    "\x1b[31m",
    "\x1b[0m",
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

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().expect(name))
}

/// Keeps an input in a file.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build");
    fs::create_dir_all(&path).expect("a directory");
    let path = path.join(format!("fuzz-tool-{name}"));
    fs::write(&path, input).expect("room");
    path
}

/// Is told when work on an input begins, and with none when it ends; says which does not end.
fn watch(told: &Receiver<Option<Vec<u8>>>, limit: Duration, hangs: impl Fn(&[u8])) {
    while let Ok(begun) = told.recv() {
        let Some(input) = begun else {
            continue;
        };
        if told.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            hangs(&input);
        }
    }
}

/// Tries changed inputs, and those that were taken changed further. `run` says which were.
fn hunt(name: &str, seeds: Vec<Vec<u8>>, run: impl Fn(&[u8]) -> bool) {
    let limit = number("P2PDMA_FUZZ_SECONDS").map(Duration::from_secs);
    let mut random = ChaCha8Rng::seed_from_u64(number("P2PDMA_FUZZ_SEED").unwrap_or(1));
    let (start, mut rounds, mut taken) = (Instant::now(), 0_u32, 0_u32);
    let mut slowest = Duration::ZERO;
    let (tell, told) = channel();
    let kept = name.to_owned();
    let hang = number("P2PDMA_FUZZ_HANG").map_or(HANG, Duration::from_secs);
    thread::spawn(move || {
        watch(&told, hang, |input| {
            let path = keep(&kept, input);
            // a thread that hangs cannot be ended otherwise
            eprintln!("{kept}: no end after {hang:.0?} with {}", path.display());
            process::exit(1);
        });
    });
    let run = |input: &[u8]| {
        tell.send(Some(input.to_vec())).expect("a watch");
        let is_taken = run(input);
        tell.send(None).expect("a watch");
        is_taken
    };
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
            let path = keep(name, &input);
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

/// That a text can be printed: there are no characters for a terminal in it but the styles of this
/// program, each of which ends before another begins.
fn is_safe(text: &[u8]) {
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\x1b') {
        assert_eq!(printable(&rest[..at]), &rest[..at]);
        let inside = STYLES.iter().find_map(|style| {
            let (start, end) = (style.render().to_string(), style.render_reset().to_string());
            let (inside, after) = rest[at..].strip_prefix(&start)?.split_once(&end)?;
            // bold alone is one, and the beginning of another
            (!inside.contains('\x1b')).then_some((inside, after))
        });
        let (inside, after) = inside.expect("a style of this program, and its end");
        assert_eq!(printable(inside), inside);
        rest = after;
    }
    assert_eq!(printable(rest), rest);
}

#[test]
fn only_styles_of_the_program_are_safe() {
    for style in STYLES {
        is_safe(format!("a {} {}\n", styled(style, "b"), styled(style, "c")).as_bytes());
    }
    let bold = styled(STYLES[0], "a");
    for text in [
        // of others, not ended, ended twice, one in the other
        "\x1b[31ma\x1b[0m",
        "\x1b[2J",
        "\x1b[1m",
        "\x1b[1ma",
        "a\x1b[0m",
        "\x1b[1;31ma\x1b[0m",
        "\x1b]0;title\x07",
        "a\rb",
        &format!("{bold}\x1b[0m"),
        &format!("\x1b[1m{bold}\x1b[0m"),
        &format!("{bold}\x1b[4m"),
        "\x1b[1ma\u{202e}\x1b[0m",
    ] {
        let checked = catch_unwind(|| is_safe(text.as_bytes()));
        assert!(checked.is_err(), "{text:?}");
    }
}

#[test]
fn what_does_not_end_is_noticed() {
    let (tell, told) = channel();
    let (found, hangs) = channel();
    let limit = Duration::from_millis(10);
    let watching = thread::spawn(move || {
        watch(&told, limit, |input| {
            found.send(input.to_vec()).expect("a test")
        });
    });
    // it does not end before it is noticed
    tell.send(Some(b"one".to_vec())).expect("a watch");
    assert_eq!(hangs.recv().expect("a hang"), b"one");
    tell.send(None).expect("a watch");
    drop(tell);
    watching.join().expect("an end");
    assert_eq!(hangs.recv(), Err(std::sync::mpsc::RecvError));

    // what ends does not hang, whatever comes after it
    let (tell, told) = channel();
    for message in [Some(b"two".to_vec()), None, None] {
        tell.send(message).expect("a channel");
    }
    drop(tell);
    watch(&told, HANG, |_| panic!("it has ended"));
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

/// The entries of what [`lines_of`] wrote: path, kind and content.
fn entries(lines: &[u8]) -> impl Iterator<Item = (String, &[u8], &[u8])> {
    lines.split(|byte| *byte == NEXT).filter_map(|line| {
        let mut parts = line.splitn(3, |byte| *byte == b'\t');
        let (path, kind, content) = (parts.next()?, parts.next()?, parts.next()?);
        Some((String::from_utf8_lossy(path).into_owned(), kind, content))
    })
}

/// The archive of a tree that is written like that, as far as tar takes it.
fn tree_of(lines: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries(lines) {
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

/// Makes such a tree in a directory, without what is not inside of it.
fn plant(lines: &[u8], root: &Path) {
    let is_inside = |path: &Path| {
        let parts = path.components();
        !path.as_os_str().is_empty() && parts.clone().all(|p| matches!(p, Component::Normal(_)))
    };
    for (path, kind, content) in entries(lines) {
        let path = Path::new(&path);
        // a directory that is a link leads elsewhere
        let is_real = |dir: &Path| !root.join(dir).is_symlink();
        if !is_inside(path) || !path.ancestors().skip(1).all(is_real) {
            continue;
        }
        let full = root.join(path);
        // names that are too long, files where directories have to be: less to look at
        let _ = fs::create_dir_all(full.parent().expect("a parent"));
        let _ = match kind {
            b"d" => fs::create_dir_all(&full),
            b"l" => {
                let target = String::from_utf8_lossy(content).into_owned();
                // what processes have open may be anywhere: it is not followed
                let is_open = path.starts_with("proc");
                let up = path.parent().map_or(0, |dir| dir.components().count());
                let target = Path::new(&target);
                let inside: PathBuf = target.components().skip(up).collect();
                let is_up = |p: Component<'_>| p == Component::ParentDir;
                let goes_up = target.components().take(up).all(is_up);
                match is_open || goes_up && is_inside(&inside) {
                    true => std::os::unix::fs::symlink(target, &full),
                    false => Ok(()),
                }
            }
            _ => fs::write(&full, content),
        };
    }
}

/// A machine whose devices are in use for all that there is.
fn in_use() -> Fake {
    let fake = fake::stacks();
    fake.write(
        "proc/self/mountinfo",
        "36 35 9:0 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/md0 rw\n\
         37 35 0:50 / /pool rw - btrfs /dev/nvme0n1 rw\n",
    );
    fake.write(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/nvme1n1 partition 1 0 -2\n",
    );
    fake.write("sys/block/loop3/loop/backing_file", "/dev/nvme0n1\n");
    fake.write("proc/80/comm", "app\n");
    fake.write(
        "proc/80/maps",
        "7f0000000000-7f0000010000 rw-s 00000000 00:15 12 \
         /sys/devices/pci0000:00/0000:05:00.0/p2pmem/allocate\n\
         7f0000010000-7f0000011000 rw-p 00000000 00:00 0\n",
    );
    let fds = fake.root.path().join("proc/80/fd");
    fs::create_dir_all(&fds).expect("a directory");
    std::os::unix::fs::symlink("/dev/nvme1n1", fds.join("3")).expect("a link");
    let namespace = "sys/kernel/config/nvmet/subsystems/nqn/namespaces/2";
    fake.write(&format!("{namespace}/p2pmem"), "0000:05:00.0\n");
    fake.write(&format!("{namespace}/device_path"), "/dev/nvme1n1\n");
    fake.write(&format!("{namespace}/enable"), "1\n");
    let device = "sys/bus/pci/devices/0000:05:00.0";
    fake.write(&format!("{device}/net/eth0/flags"), "0x1003\n");
    fake
}

/// Who uses a device, as the files of a machine tell.
#[test]
fn no_use_of_a_device_is_harmful() {
    let fake = in_use();
    let mut lines = Vec::new();
    lines_of(fake.root.path(), fake.root.path(), &mut lines);
    // what the seed has, so that all of it is looked at
    let root = tempfile::tempdir().expect("a directory");
    plant(&lines, root.path());
    let uses = |root: &Path, function: &str| {
        let uses = Files::below(root).uses(function.parse().expect("an address"));
        uses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for function in ["03:00.0", "04:00.0", "05:00.0"] {
        let expected = uses(fake.root.path(), function);
        assert!(!expected.is_empty(), "{function}");
        assert_eq!(uses(root.path(), function), expected);
    }

    hunt("users", vec![lines], |lines| {
        let root = tempfile::tempdir().expect("a directory");
        plant(lines, root.path());
        let tree = Tree::below(root.path());
        let Ok(machine) = tree.and_then(|tree| Reader::of(tree).read()) else {
            return false;
        };
        let files = Files::below(root.path());
        let mut found = 0;
        for bdf in machine.devices.keys().rev().take(8) {
            for one in files.uses(*bdf) {
                is_safe(one.to_string().as_bytes());
                is_safe(&serde_json::to_vec(&one).expect("JSON"));
                found += 1;
            }
        }
        let list = list::list(&machine, Some(root.path()));
        let mut out = Vec::new();
        list::text(&list, &mut out).expect("output");
        is_safe(&out);
        is_safe(&serde_json::to_vec(&list).expect("JSON"));
        found > 0
    });
}

/// Results of `p2pdma bench --json`, which are shown and drawn elsewhere.
#[test]
fn no_results_are_harmful() {
    let seed = serde_json::to_vec_pretty(&bench::fake::report()).expect("JSON");
    hunt("results", vec![seed], |bytes| {
        let Ok(report) = bench::Report::parse(&String::from_utf8_lossy(bytes)) else {
            return false;
        };
        let mut out = Vec::new();
        bench::text(&report, &mut out).expect("output");
        is_safe(&out);
        is_safe(&serde_json::to_vec(&report).expect("JSON"));
        for name in ["report.svg", "report.html"] {
            // what cannot be drawn is said to be so
            if let Ok(drawn) = bench::drawn(&report, Path::new(name)) {
                is_safe(drawn.as_bytes());
            }
        }
        let _ = report.is_good();
        true
    });
}
