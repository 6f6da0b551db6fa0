// SPDX-License-Identifier: GPL-2.0

//! Cases that users of peer-to-peer DMA reported, and two whole machines, with the right answers.
//!
//! Others are beside what they are about: refusals without a pool, nested switches, commas, small
//! buffers, endpoints on the root bus in `check`, lines of the log in `kmsg` and `doctor`, stacks
//! of disks in `target`.

use crate::bdf::Bdf;
use crate::check::{answer, check, Answer, Check, State, Verdict};
use crate::config_space::fake::config;
use crate::config_space::PortType;
use crate::facts::Facts;
use crate::machine::fake::{self, root_ports, switch, Fake};
use crate::machine::{device_name, Device, Machine};
use crate::route::{route, Via};
use crate::target::{target, Target};

fn bdf(text: &str) -> Bdf {
    text.parse().expect("an address")
}

fn pair(machine: &Machine, provider: &str, client: &str) -> Answer {
    let client = target(machine, false, client).expect(client);
    answer(machine, Some(bdf(provider)), Some(client))
}

fn find<'a>(answer: &'a Answer, id: &str) -> &'a Check {
    let pairs = answer.pairs.iter().flat_map(|pair| &pair.checks);
    let mut all = answer.checks.iter().chain(pairs);
    all.find(|check| check.id == id)
        .unwrap_or_else(|| panic!("no {id}: {answer:?}"))
}

fn has(answer: &Answer, id: &str) -> bool {
    let pairs = answer.pairs.iter().flat_map(|pair| &pair.checks);
    answer
        .checks
        .iter()
        .chain(pairs)
        .any(|check| check.id == id)
}

/// ACS was changed by setpci while the machine ran: what counts is what is set now, and that the
/// kernel keeps its first verdict is said.
#[test]
fn acs_changed_at_run_time() {
    let fake = switch();
    let port = "sys/bus/pci/devices/0000:02:01.0/config";
    fake.write(port, config(6, Some(0x000c)));
    let before = pair(&fake.read(), "05:00.0", "04:00.0");
    assert_eq!(before.verdict, Some(Verdict::NotSupported));
    let remedies = find(&before, "acs").remedies.join("\n");
    assert!(
        remedies.contains("setpci -s 0000:02:01.0 ECAP_ACS+6.w=0000:002c"),
        "{remedies}"
    );
    assert!(
        remedies.contains("unbind 0000:05:00.0 and bind it again: the kernel keeps its verdict"),
        "{remedies}"
    );
    // bus numbers move, the path from the root does not
    assert!(
        remedies.contains("\"pci=disable_acs_redir=0000:00:01.0/00.0/01.0\""),
        "{remedies}"
    );
    fake.write(port, config(6, Some(0)));
    let after = pair(&fake.read(), "05:00.0", "04:00.0");
    assert_eq!(after.verdict, Some(Verdict::BusAddress));
}

/// What the command line was meant to do, and what it did.
#[test]
fn command_lines_without_effect() {
    let fake = switch();
    fake.write(
        "sys/bus/pci/devices/0000:02:01.0/config",
        config(6, Some(0x000c)),
    );
    for (line, said) in [
        (
            "pci=disable_acs_redir=0000:02:01.0",
            "0000:02:01.0 redirects, though disable_acs_redir=0000:02:01.0 names it",
        ),
        (
            "pci=disable_acs_redir=0000:00:01.0/00.0/01.0;0000:00:01.0",
            "0000:02:01.0 redirects, though disable_acs_redir=0000:00:01.0/00.0/01.0 names it",
        ),
        (
            "quiet pci=realloc,disable_acs_redir=pci:104c:8233",
            "0000:02:01.0 redirects, though disable_acs_redir=pci:104c:8233 names it",
        ),
        (
            "pci=disable_acs_redir=0000:aa:01.0",
            "disable_acs_redir=0000:aa:01.0 names no function here",
        ),
        (
            "x \"pci=disable_acs_redir=0000:02:00.0;0000:02:01.0\"",
            "0000:02:01.0 redirects, though disable_acs_redir=0000:02:01.0 names it",
        ),
        (
            "pci=config_acs=0x00xx@0000:02:01.0",
            "0000:02:01.0 has ACS control 0x000c (ReqRedir CmpltRedir), though \
             config_acs=0x00xx@0000:02:01.0 names it",
        ),
        (
            "pci=disable_acs_redir=zzz;0000:02:01.0",
            "/proc/cmdline: disable_acs_redir=zzz names no port: the kernel ignores what follows",
        ),
        ("pci=config_acs=x@zzz", "config_acs=x@zzz names no port"),
        ("pci=config_acs=0000:02:01.0", "has no flags before a '@'"),
        ("pci=config_acs=2@0000:02:01.0", "flags are 0, 1 and x"),
        (
            "pci=config_acs=x@pci:dead:beef",
            "config_acs=x@pci:dead:beef names no function here",
        ),
        (
            "pci=disable_acs_redir=0000:02:01.0 pci=disable_acs_redir=0000:02:00.0",
            "of several disable_acs_redir= the kernel takes the last only",
        ),
    ] {
        fake.write("proc/cmdline", line);
        let answer = pair(&fake.read(), "05:00.0", "04:00.0");
        let check = find(&answer, "command-line");
        assert!(check.evidence.contains(said), "{line}: {}", check.evidence);
    }
    // of two lists, the last alone has an effect, and is asked what became of it
    let [redirects, other] = ["0000:02:01.0", "0000:02:00.0"];
    for (first, last, is_named) in [(redirects, other, false), (other, redirects, true)] {
        let line = format!("pci=disable_acs_redir={first} pci=disable_acs_redir={last}");
        fake.write("proc/cmdline", line);
        let answer = pair(&fake.read(), "05:00.0", "04:00.0");
        let mut said = answer.checks.iter().map(|check| &check.evidence);
        let named = said.any(|said| said.contains("0000:02:01.0 redirects, though"));
        assert_eq!(named, is_named, "{first} {last}");
    }
    for line in [
        "pci=disable_acs_redir=0000:02:00.0",
        "pci=disable_acs_redir=0000:02:00.0;",
        "pci=disable_acs_redir=pci:1b36:0",
        "pci=config_acs=1xxx@0000:02:01.0",
        // what config_acs= says comes after it
        "pci=disable_acs_redir=0000:02:01.0 pci=config_acs=11xx@0000:02:01.0",
    ] {
        fake.write("proc/cmdline", line);
        let answer = pair(&fake.read(), "05:00.0", "04:00.0");
        assert!(!has(&answer, "command-line"), "{line}: {answer:?}");
    }
    // what is there stays
    fake.write("proc/cmdline", "pci=disable_acs_redir=0000:00:01.0");
    let remedies = find(&pair(&fake.read(), "05:00.0", "04:00.0"), "acs")
        .remedies
        .join("\n");
    for said in [
        "\"pci=disable_acs_redir=0000:02:01.0;0000:00:01.0\"",
        "\"pci=disable_acs_redir=pci:104c:8233;0000:00:01.0\"",
        "the kernel keeps the last list only",
        "echo 0000:05:00.0 >/sys/bus/pci/drivers/p2pdma_provider/unbind\n\
         echo 0000:05:00.0 >/sys/bus/pci/drivers/p2pdma_provider/bind",
        "(devices below are less isolated)",
    ] {
        assert!(remedies.contains(said), "{said}: {remedies}");
    }
}

/// Root ports of AMD with ACS, and a translating IOMMU: allowed for the kernel, dropped for
/// software that uses raw addresses.
#[test]
fn acs_bits_and_domains() {
    let fake = root_ports(Some(0x001d));
    fake.cpu("AuthenticAMD", 0x19);
    for device in ["0000:02:00.0", "0000:03:00.0"] {
        let group = format!("sys/bus/pci/devices/{device}/iommu_group");
        fake.write(&format!("{group}/type"), "DMA-FQ\n");
    }
    let answer = pair(&fake.read(), "03:00.0", "02:00.0");
    assert_eq!(answer.verdict, Some(Verdict::HostBridge));
    assert_eq!(answer.able, Some(true));
    let iommu = find(&answer, "iommu");
    assert_eq!(
        iommu.evidence.matches("DMA-FQ (translates").count(),
        2,
        "{iommu:?}"
    );
    assert!(
        iommu
            .evidence
            .contains("raw BAR addresses is dropped, silently"),
        "{iommu:?}"
    );
    // the bits of each port, though they decide nothing here
    let acs = find(&answer, "acs");
    for port in ["0000:00:02.0", "0000:00:03.0"] {
        let said = format!(
            "{port} control 0x001d (SrcValid ReqRedir CmpltRedir UpstreamFwd), capability 0x"
        );
        assert!(acs.evidence.contains(&said), "{acs:?}");
    }

    // nothing is dropped where nothing is translated
    for (kind, said) in [
        ("identity", "passes through"),
        ("blocked", "lets nothing through"),
    ] {
        for device in ["0000:02:00.0", "0000:03:00.0"] {
            let group = format!("sys/bus/pci/devices/{device}/iommu_group");
            fake.write(&format!("{group}/type"), kind);
        }
        let answer = pair(&fake.read(), "03:00.0", "02:00.0");
        let iommu = &find(&answer, "iommu").evidence;
        assert!(
            iommu.contains(said) && !iommu.contains("silently"),
            "{iommu}"
        );
    }
}

/// Whether there is an IOMMU at all is known of a machine whose sysfs was read.
#[test]
fn no_iommu() {
    let fake = root_ports(None);
    assert!(!has(&pair(&fake.read(), "03:00.0", "02:00.0"), "iommu"));
    fake.write("proc/sys/kernel/osrelease", "7.3.4\n");
    let said = |fake: &Fake| {
        let answer = pair(&fake.read(), "03:00.0", "02:00.0");
        find(&answer, "iommu").evidence.clone()
    };
    assert!(said(&fake).starts_with("off, or there is none"));
    let group = "sys/bus/pci/devices/0000:01:00.0/iommu_group/type";
    fake.write(group, "DMA\n");
    assert_eq!(said(&fake), "no IOMMU group: 0000:03:00.0 and 0000:02:00.0");
    let group = "sys/bus/pci/devices/0000:02:00.0/iommu_group/type";
    fake.write(group, "DMA\n");
    assert!(said(&fake).contains("0000:03:00.0 no IOMMU group and 0000:02:00.0 DMA"));
}

/// Arrays, partitions, files, disks of the fabrics driver.
#[test]
fn stacks() {
    let machine = fake::stacks().read();
    let array = pair(&machine, "05:00.0", "/mnt/array/file");
    assert_eq!(array.verdict, Some(Verdict::BusAddress));
    let clients: Vec<_> = array.pairs.iter().map(|pair| pair.route.client).collect();
    assert_eq!(clients, [bdf("03:00.0"), bdf("04:00.0")]);
    assert!(find(&array, "queue")
        .evidence
        .contains("nvme1n1 (NVMe disk) takes them"));

    let mixed = pair(&machine, "05:00.0", "md1");
    assert_eq!(mixed.verdict, Some(Verdict::NotSupported));
    let queue = find(&mixed, "queue");
    assert_eq!(queue.state, State::Fail);
    assert!(
        queue
            .evidence
            .contains("nvme2n1 (disk of the fabrics driver) takes none"),
        "{queue:?}"
    );
    assert_eq!(queue.remedies, ["leave out nvme2n1"]);

    let fabrics = pair(&machine, "05:00.0", "/dev/nvme2n1");
    assert_eq!(
        (fabrics.verdict, fabrics.pairs.len()),
        (Some(Verdict::NotSupported), 0)
    );
    assert_eq!(fabrics.able, Some(false));
    let remedies = &find(&fabrics, "queue").remedies;
    assert!(remedies[0].starts_with("use an NVMe disk"), "{remedies:?}");
    let part = pair(&machine, "05:00.0", "nvme0n1p1");
    assert_eq!(
        (part.verdict, part.pairs.len()),
        (Some(Verdict::BusAddress), 1)
    );
    let mapped = pair(&machine, "05:00.0", "/dev/mapper/vg-data");
    assert_eq!(mapped.able, Some(false));
}

/// A kernel without P2PDMA: that comes first, whatever else there is.
#[test]
fn the_kernel_cannot() {
    let fake = switch();
    fake.write("proc/sys/kernel/osrelease", "6.1.0-1-cloud\n");
    fake.write(
        "boot/config-6.1.0-1-cloud",
        "# CONFIG_PCI_P2PDMA is not set\n",
    );
    let machine = fake.read();
    let no = pair(&machine, "05:00.0", "04:00.0");
    assert_eq!(
        (no.verdict, no.able),
        (Some(Verdict::NotSupported), Some(false))
    );
    assert_eq!(
        (no.checks[0].id, no.checks[0].state),
        ("kernel", State::Fail)
    );
    assert_eq!(answer(&machine, None, None).able, Some(false));
    // of a function alone as well, whatever else keeps it from it
    let alone = answer(&machine, None, Some(Target::Function(bdf("04:00.0"))));
    let pool = find(&alone, "pool");
    assert_eq!(
        pool.evidence,
        "0000:04:00.0; not provided: this kernel is built without CONFIG_PCI_P2PDMA \
         (/boot/config-6.1.0-1-cloud)"
    );
    assert_eq!(pool.remedies, ["boot a kernel with CONFIG_PCI_P2PDMA=y"]);
    fake.write("boot/config-6.1.0-1-cloud", "CONFIG_PCI_P2PDMA=y\n");
    let yes = pair(&fake.read(), "05:00.0", "04:00.0");
    assert_eq!(yes.verdict, Some(Verdict::BusAddress));
    assert!(find(&yes, "kernel").evidence.contains("before Linux 6.2"));
}

/// A BAR of 4 MiB on arm64, below the linear map; and one that is beyond it, on x86.
#[test]
fn outside_of_the_linear_map() {
    let fake = Fake::new();
    let dir = fake.function(&["0000:00:04.0"], (0x1b36, 0x0005, 0x00_ff00), "");
    let place = |start: u64| {
        let line = format!(
            "{start:#018x} {:#018x} 0x000000000014220c\n",
            start + (4 << 20) - 1
        );
        fake.write(&format!("{dir}/resource"), line);
        let machine = fake.read();
        answer(&machine, None, Some(Target::Function(bdf("00:04.0"))))
    };
    fake.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\n");
    fake.write("proc/iomem", "80000000-17fffffff : System RAM\n");
    let low = place(0x5850_0000);
    let check = find(&low, "linear-map");
    assert_eq!(check.state, State::Fail);
    assert!(
        check
            .evidence
            .contains("0x58500000-0x588fffff lies below what the linear map"),
        "{check:?}"
    );
    let source = "(/sys/bus/pci/devices/0000:00:04.0/resource; /proc/iomem: System RAM from \
                  80000000 on)";
    assert!(check.evidence.ends_with(source), "{check:?}");
    let pool = find(&low, "pool");
    assert_eq!(
        pool.evidence,
        format!(
            "0000:00:04.0 is not provided: BAR 0 at 0x58500000-0x588fffff lies below what the \
             linear map of this kernel covers, which begins at 0x80000000 {source}"
        )
    );
    assert!(pool.remedies[0].starts_with("let the firmware place"));
    assert!(!has(&place(0x80_0000_0000), "linear-map"));
    fake.write(
        "proc/cpuinfo",
        "vendor_id\t: GenuineIntel\nflags\t\t: fpu\n",
    );
    let high = place(0x8000_0000_0000);
    for id in ["linear-map", "pool"] {
        let check = find(&high, id);
        assert!(
            check.evidence.ends_with(
                "lies beyond what the linear map of this kernel covers, which ends at \
                 0x3fffffffffff (/sys/bus/pci/devices/0000:00:04.0/resource; /proc/cpuinfo: la57 \
                 is no flag)"
            ),
            "{check:?}"
        );
        assert!(check.remedies[0].starts_with("let the firmware place"));
    }
    assert_eq!(high.able, Some(false));
    assert!(!has(&place(0x5850_0000), "linear-map"));
}

/// In a virtual machine nothing is promised.
#[test]
fn virtual_machines() {
    let fake = Fake::new();
    fake.nvme(&["0000:00:04.0"], 0, "cmb");
    fake.nvme(&["0000:00:05.0"], 1, "plain");
    fake.write(
        "proc/cpuinfo",
        "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: fpu hypervisor lm\n",
    );
    let answer = pair(&fake.read(), "00:04.0", "00:05.0");
    assert_eq!(answer.verdict, Some(Verdict::HostBridge));
    let check = find(&answer, "hypervisor");
    assert!(check.evidence.contains("the host's to decide"));
    assert!(check.remedies[0].contains("of the host"));
}

/// Sizes, addresses, links, packets and masks.
#[test]
fn facts_are_weighed() {
    let fake = switch();
    let provider = "sys/bus/pci/devices/0000:05:00.0";
    let client = "sys/bus/pci/devices/0000:04:00.0";
    let mut slow = config(6, Some(0));
    // 2.5 GT/s, one lane, and 128 bytes a packet
    slow[0x92..0x94].copy_from_slice(&0x0011_u16.to_le_bytes());
    slow[0x88..0x8a].copy_from_slice(&0x2000_u16.to_le_bytes());
    fake.write("sys/bus/pci/devices/0000:02:01.0/config", slow);
    fake.write(
        &format!("{provider}/resource"),
        "0 0 0\n0 0 0\n0x0000008000000000 0x0000008003ffffff 0x000000000014220c\n",
    );
    fake.write(&format!("{client}/dma_mask_bits"), "39\n");
    fake.write(&format!("{client}/numa_node"), "1\n");
    fake.write(&format!("{provider}/numa_node"), "0\n");
    let answer = pair(&fake.read(), "05:00.0", "04:00.0");
    assert_eq!(answer.verdict, Some(Verdict::BusAddress));
    let link = find(&answer, "link");
    assert!(
        link.evidence
            .starts_with("at most 0.25 GB/s each way, by the link of 0000:02:01.0"),
        "{link:?}"
    );
    assert!(
        link.evidence.contains("can do 16 GT/s x16 (31.50 GB/s)"),
        "{link:?}"
    );
    let payload = find(&answer, "payload");
    assert!(
        payload.evidence.ends_with("0000:02:01.0 takes 128"),
        "{payload:?}"
    );
    let bar = find(&answer, "bar");
    assert!(
        bar.evidence
            .contains("BAR 2 64 MiB at 0x8000000000, prefetchable, 64 bits"),
        "{bar:?}"
    );
    // the addresses take 40 bits
    assert_eq!(find(&answer, "dma-mask").state, State::Fail);
    assert_eq!(answer.able, Some(false));
    assert!(find(&answer, "numa").evidence.contains("node 0"));
    fake.write(&format!("{client}/dma_mask_bits"), "64\n");
    assert_eq!(pair(&fake.read(), "05:00.0", "04:00.0").able, Some(true));
}

/// [`switch`], in which 05:00.0 has no pool, and this BAR.
fn without_pool(resource: &str) -> Fake {
    let fake = switch();
    fake.write(
        "proc/cpuinfo",
        "vendor_id\t: GenuineIntel\nflags\t\t: fpu\n",
    );
    let device = "sys/bus/pci/devices/0000:05:00.0";
    let pool = fake.root.path().join(device).join("p2pmem");
    std::fs::remove_dir_all(pool).expect("a pool");
    fake.write(&format!("{device}/resource"), resource);
    fake
}

fn heading(answer: &Answer) -> String {
    let mut out = anstream::StripStream::new(Vec::new());
    crate::check::text(answer, &mut out).expect("output");
    let out = String::from_utf8(out.into_inner()).expect("UTF-8");
    let end = out.find("\n  ").unwrap_or(out.len());
    out[..end].to_owned()
}

/// Whatever fails, the pair is not able, and heading, JSON and exit status say so.
#[test]
fn what_fails_forbids() {
    for (resource, id, name) in [
        ("0x0 0xffffff 0x20040200", "bar", "without an address"),
        (
            "0x0000800000000000 0x0000800000ffffff 0x14220c",
            "linear-map",
            "beyond the linear map",
        ),
    ] {
        let fake = without_pool(resource);
        let answer = pair(&fake.read(), "05:00.0", "04:00.0");
        assert_eq!(answer.verdict, Some(Verdict::BusAddress), "{name}");
        assert_eq!(find(&answer, id).state, State::Fail, "{name}");
        assert_eq!(
            (answer.able, answer.pairs[0].able),
            (Some(false), Some(false)),
            "{name}"
        );
        let expected = format!("0000:05:00.0 - 0000:04:00.0: not able: {id}; the path is");
        assert!(heading(&answer).starts_with(&expected), "{name}");
        // of no matter for what it could take
        let other = pair(&fake.read(), "03:00.0", "05:00.0");
        assert_eq!(other.able, Some(true), "{name}");
    }
    // too small for a pool, which the pair does not need
    let fake = without_pool("0xfe000000 0xfe003fff 0x40200");
    let answer = pair(&fake.read(), "05:00.0", "04:00.0");
    assert_eq!(
        (find(&answer, "pool").state, answer.able),
        (State::Note, Some(true))
    );
    // another BAR than that of a pool may have none
    let fake = switch();
    fake.write(
        "sys/bus/pci/devices/0000:05:00.0/resource",
        "0x0 0xfff 0x20040200\n0 0 0\n0x8000000000 0x8003ffffff 0x14220c\n",
    );
    let answer = pair(&fake.read(), "05:00.0", "04:00.0");
    assert_eq!(
        (find(&answer, "bar").state, answer.able),
        (State::Note, Some(true))
    );
}

/// An array with a member that is not found: nothing can be said.
#[test]
fn stacks_that_are_not_known() {
    let fake = fake::stacks();
    let gone = "sys/devices/virtual/block/md0/slaves/nvme9n1/dev";
    fake.write(gone, "");
    let answer = pair(&fake.read(), "05:00.0", "md0");
    assert_eq!(find(&answer, "queue").state, State::Unknown);
    assert_eq!(
        (answer.verdict, answer.able),
        (Some(Verdict::Unknown), None)
    );
    assert!(heading(&answer).starts_with("md0: cannot be told"));
}

/// Why something is no provider, by what it has.
#[test]
fn no_provider() {
    let alone = |fake: &Fake, function: &str| {
        let answer = answer(&fake.read(), None, Some(Target::Function(bdf(function))));
        let said = find(&answer, "pool").evidence.clone();
        (said, answer)
    };
    let fake = switch();
    let (said, whole) = alone(&fake, "04:00.0");
    assert_eq!(
        find(&whole, "queue").evidence,
        "queues of nvme1 (nvme; nvme1n1) take peer-to-peer pages"
    );
    assert_eq!(
        said,
        "nvme1 has no CMB, the only memory that its driver, nvme, provides (there is no \
         /sys/class/nvme/nvme1/cmbsz)"
    );
    assert!(find(&whole, "pool").remedies[0].starts_with("use a controller with a CMB"));
    assert_eq!(whole.able, Some(true));
    // a CMB that controllers can write to only
    let cmb = "sys/bus/pci/devices/0000:03:00.0";
    fake.write(&format!("{cmb}/nvme/nvme0/cmbsz"), "0x00042217\n");
    fake.write(&format!("{cmb}/p2pmem/published"), "0\n");
    let (said, whole) = alone(&fake, "03:00.0");
    let published =
        "of nvme, is not published (/sys/bus/pci/devices/0000:03:00.0/p2pmem/published \
                     is 0)";
    assert!(said.contains(published), "{said}");
    assert!(
        said.contains("CMBSZ (0x00042217) has no support for reads (RDS), without"),
        "{said}"
    );
    assert!(find(&whole, "pool").remedies[0].starts_with("map it for what it supports"));
    fake.write(&format!("{cmb}/nvme/nvme0/cmbsz"), "0x0004221f\n");
    let (said, whole) = alone(&fake, "03:00.0");
    assert!(!said.contains("support"));
    assert!(find(&whole, "pool").remedies[0].starts_with("nvme alone can publish it"));
    fake.write("sys/bus/pci/devices/0000:05:00.0/p2pmem/published", "0\n");
    let (_, whole) = alone(&fake, "05:00.0");
    assert_eq!(
        find(&whole, "pool").remedies,
        ["p2pdma publish 0000:05:00.0"]
    );

    // 16 KiB, and drivers
    let fake = without_pool("0xfe000000 0xfe003fff 0x40200");
    let (said, whole) = alone(&fake, "05:00.0");
    assert!(
        said.contains("none of its BARs is as large as 2 MiB"),
        "{said}"
    );
    let remedies = &find(&whole, "pool").remedies;
    assert_eq!(
        remedies,
        &["use a device with a memory BAR of 2 MiB or more"]
    );
    let bar = &find(&whole, "bar").evidence;
    assert!(bar.contains("too small to be provided"), "{bar}");
    // what is not prefetchable is taken only if it is named
    for (resource, bind) in [
        ("0xfe000000 0xfeffffff 0x40200", "bind 0000:05:00.0 --bar 0"),
        ("0xfe000000 0xfeffffff 0x42200", "bind 0000:05:00.0"),
    ] {
        let fake = without_pool(resource);
        let (said, whole) = alone(&fake, "05:00.0");
        assert!(
            said.ends_with(
                "its driver, p2pdma_provider, provides no memory of it now \
                 (/sys/bus/pci/devices/0000:05:00.0/driver)"
            ),
            "{said}"
        );
        let remedy = &find(&whole, "pool").remedies[0];
        assert!(remedy.ends_with(bind), "{remedy}");
    }
    let fake = Fake::new();
    fake.function(&["0000:00:04.0"], (0x1b36, 0x0010, 0x01_0802), "");
    let (said, whole) = alone(&fake, "00:04.0");
    assert!(said.contains("whether it has a CMB is not known"), "{said}");
    let bind = ["p2pdma bind 0000:00:04.0"];
    assert_eq!(find(&whole, "pool").remedies, bind);
    fake.function(&["0000:00:05.0"], (0x1b36, 0x0005, 0x00_ff00), "");
    let (said, whole) = alone(&fake, "00:05.0");
    assert!(said.contains("it has no driver that would"), "{said}");
    assert!(find(&whole, "pool").remedies[0].starts_with("p2pdma bind 0000:00:05.0"));

    // a text knows of no drivers
    let machine = crate::source::lspci(&crate::source::tests::machine_text(4096));
    let ends = machine
        .devices
        .values()
        .filter(|device| !device.is_bridge());
    let mut seen = 0;
    for end in ends {
        let answer = answer(&machine, None, Some(Target::Function(end.bdf)));
        if has(&answer, "pool") {
            let said = &find(&answer, "pool").evidence;
            assert!(said.contains("what lspci prints does not tell"), "{said}");
            seen += 1;
        }
    }
    assert_ne!(seen, 0);
}

/// Why something is no provider, by where its BAR is, or is not.
#[test]
fn where_a_bar_is() {
    let resource = "(/sys/bus/pci/devices/0000:05:00.0/resource)";
    for (line, said, remedy) in [
        (
            "0x0 0xffffff 0x20040200",
            format!("BAR 0 has no address {resource}"),
            "boot with pci=realloc, and switch on \"Above 4G decoding\" in the firmware",
        ),
        // of Enhanced Allocation, which need not begin at a multiple of its size
        (
            "0xfe100000 0xfe5fffff 0x42200",
            format!(
                "BAR 0 of 5 MiB at 0xfe100000 {resource} is misaligned: the kernel needs it to \
                 begin and end at multiples of 2 MiB"
            ),
            "p2pdma bind 0000:05:00.0 --bar 0 --offset 1M --size 4M",
        ),
        (
            "0xfe100000 0xfe2fffff 0x42200",
            format!(
                "BAR 0 of 2 MiB at 0xfe100000 {resource} is misaligned: the kernel needs it to \
                 begin and end at multiples of 2 MiB"
            ),
            "use a device with a memory BAR of 2 MiB or more",
        ),
    ] {
        let fake = without_pool(line);
        let alone = answer(&fake.read(), None, Some(Target::Function(bdf("05:00.0"))));
        let pool = find(&alone, "pool");
        let expected = format!("0000:05:00.0 is not provided: {said}");
        assert_eq!(pool.evidence, expected);
        assert_eq!(pool.remedies, [remedy]);
    }
}

/// Why a memory buffer is not provided, by where it is; and how much of it can be.
#[test]
fn where_a_buffer_is() {
    let fake = Fake::new();
    fake.write(
        "proc/cpuinfo",
        "vendor_id\t: GenuineIntel\nflags\t\t: fpu\n",
    );
    let dir = fake.nvme(&["0000:00:04.0"], 0, "cmb");
    let pool = |location: &str, size: &str, resource: &str| {
        fake.write(&format!("{dir}/nvme/nvme0/cmbloc"), location);
        fake.write(&format!("{dir}/nvme/nvme0/cmbsz"), size);
        fake.write(
            &format!("{dir}/resource"),
            format!("0 0 0\n0 0 0\n{resource}\n"),
        );
        let answer = pair(&fake.read(), "00:04.0", "00:04.0");
        let Check {
            evidence, remedies, ..
        } = find(&answer, "pool");
        (evidence.clone(), remedies.join("; "), answer.able)
    };
    let (said, remedy, able) = pool("0x2", "0x0000421f", "0x0 0x3fffff 0x2014220c");
    assert!(
        said.ends_with("BAR 2 has no address (/sys/bus/pci/devices/0000:00:04.0/resource)"),
        "{said}"
    );
    assert!(remedy.starts_with("boot with pci=realloc"), "{remedy}");
    assert_eq!(able, Some(false));
    let beyond = "0x800000000000 0x8000003fffff 0x14220c";
    let (said, remedy, able) = pool("0x2", "0x0000421f", beyond);
    assert!(
        said.starts_with(
            "nvme0 has a CMB of 4 MiB in BAR 2; not provided: BAR 2 at \
             0x800000000000-0x8000003fffff lies beyond what"
        ),
        "{said}"
    );
    assert!(remedy.starts_with("let the firmware place"), "{remedy}");
    assert_eq!(able, Some(false));

    // 3 MiB, and 5 MiB from 1 MiB on: a part of each can be provided
    let fits = "0x8000000000 0x8000ffffff 0x14220c";
    for (location, size, said, remedy) in [
        (
            "0x00000002",
            "0x0000321f",
            "multiples of 2 MiB (cmbloc 0x00000002, cmbsz 0x0000321f)",
            "p2pdma bind 0000:00:04.0 --size 2M, which takes the controller from nvme",
        ),
        (
            "0x00001002",
            "0x0000521f",
            "multiples of 2 MiB (cmbloc 0x00001002, cmbsz 0x0000521f)",
            "p2pdma bind 0000:00:04.0 --offset 1M --size 4M, which takes the controller from nvme",
        ),
        // 64 KiB before the first multiple of 2 MiB
        (
            "0x0001f002",
            "0x0004011f",
            "begin at a multiple of 2 MiB (cmbloc 0x0001f002, cmbsz 0x0004011f)",
            "p2pdma bind 0000:00:04.0 --offset 64K --size 2M, which takes the controller from nvme",
        ),
        (
            "0x00000002",
            "0x0000121f",
            "multiples of 2 MiB (cmbloc 0x00000002, cmbsz 0x0000121f)",
            "set another size of the CMB, if the controller can; or use the memory of another \
             device",
        ),
    ] {
        let (found, options, able) = pool(location, size, fits);
        assert!(found.ends_with(said), "{found}");
        assert_eq!(options, remedy);
        assert_eq!(able, Some(false));
    }
    // 8 MiB from 1 MiB on, in a BAR of 4 MiB: p2pdma_provider takes nothing of what is cut
    let cut = "0x8000000000 0x80003fffff 0x14220c";
    let (said, remedy, able) = pool("0x00001002", "0x0000821f", cut);
    assert!(
        said.contains("of which 3 MiB are in the BAR; not provided: the kernel needs multiples"),
        "{said}"
    );
    assert!(remedy.starts_with("set another size"), "{remedy}");
    assert_eq!(able, Some(false));
    // nothing of that
    let (said, remedy, able) = pool("0x2", "0x0000421f", fits);
    assert!(said.ends_with("failed to register the CMB)"), "{said}");
    assert!(remedy.starts_with("p2pdma doctor"), "{remedy}");
    assert_eq!(able, Some(true));
}

/// The kernel takes what of a CMB is in its BAR.
#[test]
fn buffers_larger_than_their_bar() {
    let fake = Fake::new();
    let dir = fake.nvme(&["0000:00:04.0"], 0, "cmb");
    let said = |location: &str, size: &str, bar: u64| {
        fake.write(&format!("{dir}/nvme/nvme0/cmbloc"), location);
        fake.write(&format!("{dir}/nvme/nvme0/cmbsz"), size);
        let line = format!(
            "0 0 0\n0 0 0\n0x8000000000 {:#x} 0x14220c\n",
            0x80_0000_0000 + bar - 1
        );
        fake.write(&format!("{dir}/resource"), line);
        let answer = pair(&fake.read(), "00:04.0", "00:04.0");
        (find(&answer, "pool").evidence.clone(), answer.able)
    };
    // units of 1 MiB: 3 MiB of it, in BARs of 2 and 4 MiB
    let (cut, able) = said("0x2", "0x0000321f", 2 << 20);
    assert_eq!(
        cut,
        "nvme0 has a CMB of 3 MiB in BAR 2, of which 2 MiB are in the BAR; not provided: the \
         kernel's log says why (nvme: failed to register the CMB)"
    );
    assert_eq!(able, Some(true));
    let (whole, able) = said("0x2", "0x0000321f", 4 << 20);
    assert!(
        whole.contains("not provided: the kernel needs multiples of 2 MiB"),
        "{whole}"
    );
    assert_eq!(able, Some(false));
    let (beyond, _) = said("0x00004002", "0x0000221f", 4 << 20);
    assert!(
        beyond.ends_with("inside of its BAR of 4 MiB (cmbloc 0x00004002, cmbsz 0x0000221f)"),
        "{beyond}"
    );
}

/// A kernel whose list of host bridges was never looked at.
#[test]
fn kernels_that_are_not_known() {
    let fake = root_ports(None);
    fake.function(&["0000:00:00.0"], (0x8086, 0x2030, 0x06_0000), "");
    for (release, said, able) in [
        (
            "5.10.0-8-amd64",
            "the list that is known here is of Linux 7.2 and 7.3, and this is Linux 5.10.0-8-amd64",
            None,
        ),
        ("7.3.4", "; in the kernel's list (of Linux 7.3)", Some(true)),
        ("7.2", "; in the kernel's list (of Linux 7.2)", Some(true)),
        (
            "",
            "; in the list of Linux 7.3 (the version of this kernel is not known)",
            Some(true),
        ),
    ] {
        fake.write("proc/sys/kernel/osrelease", release);
        let machine = fake.read();
        let both = pair(&machine, "03:00.0", "02:00.0");
        assert_eq!(both.able, able, "{release}");
        let evidence = &find(&both, "host-bridge").evidence;
        assert!(evidence.contains(said), "{evidence}");
        let bridges = answer(&machine, None, None);
        let is_unknown = find(&bridges, "host-bridge").state == State::Unknown;
        assert_eq!(is_unknown, able.is_none(), "{release}");
    }
    // the processor's rule comes first
    fake.write("proc/sys/kernel/osrelease", "5.10.0");
    fake.cpu("AuthenticAMD", 0x17);
    let both = pair(&fake.read(), "03:00.0", "02:00.0");
    assert_eq!(both.able, Some(true));
}

/// In a container without /sys/class/block, and with one of two disks.
#[test]
fn containers() {
    let fake = switch();
    assert!(!has(&answer(&fake.read(), None, None), "container"));
    fake.write("proc/sys/kernel/osrelease", "7.3.4\n");
    fake.write("sys/bus/pci/drivers/nvme/bind", "");
    fake.write("proc/self/status", "");
    fake.write("dev/nvme0n1", "");
    assert!(!has(&answer(&fake.read(), None, None), "container"));
    fake.write("run/systemd/container", "lxc\n");
    let whole = answer(&fake.read(), None, None);
    let check = find(&whole, "container");
    assert_eq!(
        check.evidence,
        "this is a container (lxc); not there: /sys/class/block: what drivers, disks and mounts \
         there are is not known; no device node: nvme1n1: nothing can be moved to or from them"
    );
    assert_eq!(check.remedies[1], "run it with --device /dev/nvme1n1");
    fake.write("dev/nvme1n1", "");
    fake.write("sys/class/block/x", "");
    let whole = answer(&fake.read(), None, None);
    assert_eq!(
        find(&whole, "container").evidence,
        "this is a container (lxc)"
    );
}

/// A tree without functions says nothing.
#[test]
fn no_functions() {
    let fake = Fake::new();
    assert_eq!(answer(&fake.read(), None, None).able, None);
    let said = |fake: &Fake| heading(&answer(&fake.read(), None, None));
    assert_eq!(
        said(&fake),
        "There is nothing to be said: no PCI function was found.\n"
    );
    // a bus whose first function stands for no host bridge
    fake.function(&["0000:00:02.0"], (0x8086, 0x1237, 0x06_0000), "");
    let whole = answer(&fake.read(), None, None);
    assert_eq!(whole.able, Some(true));
    let bridge = &find(&whole, "host-bridge").evidence;
    assert!(
        bridge.contains("neither function 00.0 nor a root port"),
        "{bridge}"
    );
    let state = |fake: &Fake| find(&answer(&fake.read(), None, None), "host-bridge").state;
    assert_eq!(state(&fake), State::Note);
    fake.cpu("AuthenticAMD", 0x19);
    assert_eq!(state(&fake), State::Ok);
}

/// A machine of a table.
fn machine(table: &str) -> Machine {
    let device = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let hex = |at: usize| u32::from_str_radix(words[at], 16).expect("a number");
        let id = |at| u16::try_from(hex(at)).expect("an id");
        let kind = |word: &str| match word {
            "root-port" => Some(PortType::RootPort),
            "switch-upstream" => Some(PortType::SwitchUpstream),
            "switch-downstream" => Some(PortType::SwitchDownstream),
            "root-complex-endpoint" => Some(PortType::RootComplexEndpoint),
            "endpoint" => Some(PortType::Endpoint),
            _ => None,
        };
        let parent = words[1].parse().ok();
        let mut device = Device {
            bdf: bdf(words[0]),
            parent,
            root_bus: String::new(),
            vendor_id: id(2),
            device_id: id(3),
            class: hex(4),
            name: device_name(id(2), id(3), hex(4)),
            port_type: kind(words[5]),
            driver: None,
            numa_node: words[8].parse().ok(),
            acs_redirect: words[7].parse().ok(),
            acs_control: words[6].parse().ok(),
            iommu: None,
            facts: Facts::default(),
        };
        // all with a parent are on buses of the first host bridge but for 82 and 83
        let bus = match (parent, device.bdf.bus().1) {
            (None, bus) => bus,
            (Some(_), 0x80..) => 0x80,
            (Some(_), _) => 0,
        };
        device.root_bus = format!("pci0000:{bus:02x}");
        device
    };
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    Machine::of(lines.map(device).map(|d| (d.bdf, d)).collect())
}

/// All pairs of functions that are no bridges, with the verdict and the distance.
fn all_pairs(machine: &Machine) -> Vec<(Bdf, Bdf, Option<bool>, usize, Via)> {
    let ends = || {
        machine
            .devices
            .values()
            .filter(|device| device.class >> 16 != 0x06)
    };
    ends()
        .flat_map(|a| ends().map(move |b| (a.bdf, b.bdf)))
        .filter(|(a, b)| a != b)
        .map(|(a, b)| {
            let route = route(machine, a, b);
            (a, b, route.via.works(), route.distance, route.via)
        })
        .collect()
}

/// Root buses 00, whose first device is in the list for pairs of one host bridge; 80, whose first
/// device is not; 7f and ff, which have none. All seen without root.
#[test]
fn a_machine_with_two_sockets() {
    let mut machine = machine(include_str!("../data/machines/two-socket-xeon.txt"));
    assert_eq!(machine.devices.len(), 137);
    machine.cpu_allows_any_pair = Some(false);
    let root = |function: Bdf| match function.bus().1 {
        0x00..=0x05 => 0x00,
        0x80..=0x83 => 0x80,
        other => other,
    };
    let depth = |function: Bdf| match function.bus().1 {
        0x02 | 0x82 | 0x83 => 2,
        0x05 => 3,
        _ => 1,
    };
    let pairs = all_pairs(&machine);
    assert_eq!(pairs.len(), 126 * 125);
    let mut seen = std::collections::BTreeMap::new();
    for (a, b, works, distance, via) in pairs {
        let one_port = (a.bus(), b.bus()) == ((0, 0x02), (0, 0x02));
        let expected = if one_port {
            // two functions of a card: direct, or through the host bridge, and both are allowed
            assert!(matches!(via, Via::Unknown { .. }), "{a} {b}");
            Some(true)
        } else {
            Some(root(a) == 0x00 && root(b) == 0x00)
        };
        let far = if one_port { 2 } else { depth(a) + depth(b) };
        assert_eq!((works, distance), (expected, far), "{a} {b}");
        *seen.entry((root(a), root(b), works)).or_insert(0) += 1;
    }
    // three verdicts in one machine
    assert_eq!(seen.get(&(0, 0, Some(true))), Some(&(21 * 20)));
    assert_eq!(seen.get(&(0x80, 0x80, Some(false))), Some(&(13 * 12)));
    assert_eq!(seen.get(&(0, 0x80, Some(false))), Some(&(21 * 13)));
}

/// A processor of Intel and one host bridge, 8086:3405, which is not in the list; a switch with one
/// device below it (04:00.0), and two functions below one port (06:00.0 and 06:00.1).
///
/// So, by hand: these two reach each other below 00:07.0, at distance 2, whatever the processor is.
/// No other two have a bridge in common. All of them meet in the host bridge, at a distance of all
/// the functions on both sides, and whether that may be is the processor's rule alone. The ports
/// with ACS have no bit of it set, and all of it was read, so that ACS decides nothing.
#[test]
fn a_desktop_with_a_switch() {
    let mut machine = machine(include_str!("../data/machines/x58-switch.txt"));
    // how many functions each has on its path, itself included
    let depth = |function: Bdf| match function.bus().1 {
        // 04:00.0, 03:00.0, 02:00.0 and 00:03.0
        0x04 => 4,
        0x06..=0x08 => 2,
        _ => 1,
    };
    let pairs_of = |machine: &Machine| {
        let mut pairs = all_pairs(machine);
        // of another root bus, which begins with a function that is not in the list either
        for other in ["06:00.0", "04:00.0", "00:1b.0"] {
            let found = route(machine, bdf("ff:00.0"), bdf(other));
            let works = found.via.works();
            pairs.push((bdf("ff:00.0"), bdf(other), works, found.distance, found.via));
        }
        pairs
    };
    for (cpu, through_host, verdict) in [
        (None, None, Verdict::Unknown),
        (Some(false), Some(false), Verdict::NotSupported),
        (Some(true), Some(true), Verdict::HostBridge),
    ] {
        machine.cpu_allows_any_pair = cpu;
        let pairs = pairs_of(&machine);
        // 17 functions of the root complex and 5 below ports
        assert_eq!(pairs.len(), 22 * 21 + 3);
        let mut below_a_port = 0;
        for (a, b, works, distance, via) in pairs {
            let found = check(&machine, a, b).verdict;
            if a.bus() == (0, 0x06) && b.bus() == (0, 0x06) {
                let bridge = bdf("00:07.0");
                assert_eq!((works, distance), (Some(true), 2), "{a} {b}");
                assert_eq!((via, found), (Via::Bridge { bridge }, Verdict::BusAddress));
                below_a_port += 1;
                continue;
            }
            let expected = Via::HostBridge {
                allowed: through_host,
                acs_redirect: Vec::new(),
            };
            assert_eq!(via, expected, "{a} {b}");
            assert_eq!((works, found), (through_host, verdict), "{a} {b}");
            assert_eq!(distance, depth(a) + depth(b), "{a} {b}");
        }
        assert_eq!(below_a_port, 2);
    }
}

/// Virtual functions, of the one and the other end.
#[test]
fn virtual_functions() {
    let fake = switch();
    let said = |client: &str| {
        let answer = pair(&fake.read(), "05:00.0", client);
        assert_eq!(answer.able, Some(true));
        let checks = answer.pairs.into_iter().flat_map(|pair| pair.checks);
        let sriov = checks.filter(|check| check.id == "sriov");
        sriov
            .map(|check| {
                assert_eq!(check.state, State::Note);
                check.evidence
            })
            .collect::<Vec<_>>()
    };
    // it can have some, and has none
    let provider = "sys/bus/pci/devices/0000:05:00.0";
    fake.write(&format!("{provider}/sriov_totalvfs"), "8\n");
    fake.write(&format!("{provider}/sriov_numvfs"), "0\n");
    assert!(said("04:00.0").is_empty());
    fake.write(&format!("{provider}/sriov_numvfs"), "2\n");
    let has = "0000:05:00.0 has 2 of 8 virtual functions";
    assert_eq!(said("04:00.0"), [has]);
    let client = fake.root.path().join("sys/bus/pci/devices/0000:04:00.0");
    std::os::unix::fs::symlink("../0000:05:00.0", client.join("physfn")).expect("a link");
    assert_eq!(
        said("04:00.0"),
        [has, "0000:04:00.0 is a virtual function of 0000:05:00.0"]
    );
    // one function is named once
    assert_eq!(said("05:00.0"), [has]);
    let alone = Some(Target::Function(bdf("04:00.0")));
    let alone = answer(&fake.read(), None, alone);
    assert!(find(&alone, "sriov").evidence.ends_with("of 0000:05:00.0"));
}

/// A configuration space with the DVSEC of CXL.
fn with_cxl(port_type: u8, acs: Option<u16>) -> Vec<u8> {
    let mut config = config(port_type, acs);
    let put = |config: &mut [u8], at: usize, value: u32| {
        config[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    // after ACS, if there is any
    let first = if acs.is_some() { 0x140 } else { 0x100 };
    let id = if acs.is_some() {
        0x0001_000d
    } else {
        0x0001_0001
    };
    put(&mut config, first, 0x1800_0000 | id);
    put(&mut config, 0x180, 0x0001_0023);
    put(&mut config, 0x184, 0x1e98);
    config
}

/// Ports and devices of the path that do CXL as well, and no others.
#[test]
fn ports_of_cxl() {
    let fake = root_ports(Some(0));
    fake.cpu("AuthenticAMD", 0x19);
    let write = |function: &str, port_type, acs| {
        let path = format!("sys/bus/pci/devices/{function}/config");
        fake.write(&path, with_cxl(port_type, acs));
    };
    assert!(!has(&pair(&fake.read(), "03:00.0", "02:00.0"), "cxl"));
    write("0000:00:03.0", 4, Some(0));
    write("0000:02:00.0", 0, None);
    // of another path
    write("0000:00:01.0", 4, Some(0));
    let answer = pair(&fake.read(), "03:00.0", "02:00.0");
    let cxl = find(&answer, "cxl");
    assert_eq!(
        (cxl.state, cxl.evidence.as_str()),
        (
            State::Note,
            "does CXL as well: 0000:00:03.0 and 0000:02:00.0"
        )
    );
    assert_eq!(answer.able, Some(true));
    let alone = |function: &str| {
        let target = Some(Target::Function(bdf(function)));
        crate::check::answer(&fake.read(), None, target)
    };
    let said = &find(&alone("02:00.0"), "cxl").evidence.clone();
    assert_eq!(said, "does CXL as well: 0000:02:00.0");
    assert!(!has(&alone("03:00.0"), "cxl"));
}

/// A BAR that could be larger.
#[test]
fn bars_that_can_be_resized() {
    let fake = without_pool("0x8000000000 0x800fffffff 0x14220c");
    let path = "sys/bus/pci/devices/0000:05:00.0/config";
    let mut config = config(0, None);
    config[0x100..0x104].copy_from_slice(&0x0001_0015_u32.to_le_bytes());
    // 256 MiB to 32 GiB, BAR 0, one of them
    config[0x104..0x108].copy_from_slice(&(0x0000_ff00_u32 << 4).to_le_bytes());
    for (code, state, size) in [(0x08, State::Note, "256 MiB"), (0x0f, State::Ok, "32 GiB")] {
        config[0x108..0x10c].copy_from_slice(&(0x0000_0020_u32 | (code << 8)).to_le_bytes());
        fake.write(path, &config);
        let answer = pair(&fake.read(), "05:00.0", "04:00.0");
        let bar = find(&answer, "bar");
        assert_eq!(
            (bar.state, bar.evidence.as_str()),
            (
                state,
                format!(
                    "0000:05:00.0: BAR 0 256 MiB at 0x8000000000, prefetchable, 64 bits, \
                     resizable, {size} of 32 GiB"
                )
                .as_str()
            )
        );
        let remedy = "switch on \"Resizable BAR\" in the firmware, or unbind 0000:05:00.0 and \
                      write to resource0_resize";
        assert_eq!(bar.remedies == [remedy], state == State::Note, "{bar:?}");
        assert_eq!(answer.able, Some(true));
    }
}
