// SPDX-License-Identifier: GPL-2.0

//! Finds in the console's lines what a healthy kernel does not print.

use std::collections::VecDeque;
use std::sync::LazyLock;

use regex::Regex;

/// Lines of one splat that are kept. Longer ones say the same over and over.
const LINES: usize = 200;

/// A splat without an end of its own is over after so many lines without a stack trace; empty ones
/// are not counted. Those of RCU name all locks that are held before they come to the trace.
const QUIET_LINES: usize = 20;

/// One complaint of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splat {
    /// What kind, in a word or two.
    pub kind: &'static str,
    /// The line that says most.
    pub title: String,
    /// All its lines, without time stamps.
    pub lines: Vec<String>,
}

impl Splat {
    /// Whether it only says that kmemleak has something in its report.
    pub fn announces_leaks(&self) -> bool {
        self.kind == "kmemleak" && self.title.contains("new suspected")
    }
}

/// Kinds of splat, by a line that only they have. The first match wins.
static KINDS: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    [
        ("panic", r"^Kernel panic - not syncing"),
        ("KASAN", r"^BUG: KASAN:|^KASAN: "),
        ("KFENCE", r"^BUG: KFENCE:"),
        ("KCSAN", r"^BUG: KCSAN:"),
        ("KMSAN", r"^BUG: KMSAN:"),
        ("UBSAN", r"^UBSAN: "),
        (
            "lockdep",
            r"^WARNING: (possible|inconsistent|bad unlock|bad contention|held lock)",
        ),
        (
            "lockdep",
            r"^WARNING: (Nested lock|lock held|.* lock order detected)",
        ),
        ("lockdep", r"^WARNING: .* still has locks held"),
        (
            "lockdep",
            r"^INFO: (possible|trying to register non-static key)",
        ),
        ("lockdep", r"^(possible|inconsistent) .*(lock|deadlock)"),
        (
            "RCU",
            r"^WARNING: suspicious RCU usage|\brcu: INFO: rcu\w* (self-)?detected ",
        ),
        (
            "RCU",
            r"^rcu: .* kthread .*(starved|timer wakeup didn't happen)|^INFO: rcu",
        ),
        (
            "hung task",
            r"^INFO: task .* blocked .*for more than \d+ seconds",
        ),
        ("soft lockup", r"\bBUG: soft lockup\b"),
        ("hard lockup", r"hard LOCKUP"),
        ("workqueue lockup", r"^BUG: workqueue lockup"),
        ("kmemleak", r"^kmemleak: \d+ new suspected memory leaks"),
        (
            "kmemleak",
            r"^kmemleak: Kernel memory leak detector disabled",
        ),
        (
            "kmemleak",
            r"^kmemleak: Automatic memory scanning.*(fail|error)",
        ),
        ("refcount", r"^refcount_t: "),
        ("list corruption", r"^list_(add|del) corruption"),
        ("slab corruption", r"^BUG [\w.-]+ \(.*\): "),
        (
            "general protection",
            r"^general protection fault|^traps: PANIC|^double fault",
        ),
        ("Oops", r"^Oops\b|^Internal error: "),
        ("kernel BUG", r"^kernel BUG at |^BUG: |^BUG\b.*:"),
        ("WARNING", r"^WARNING: "),
        ("page allocation", r"page allocation failure"),
        // After the prefix: driver and device, or what the checks themselves ran into.
        (
            "DMA-API",
            r"^DMA-API: \S+ \S+: |^DMA-API: .*(exceeded|out of memory|failed|cannot)",
        ),
        ("object debugging", r"^ODEBUG: "),
        (
            "kernel text",
            r"^Unable to handle kernel|^stack segment|^kernel stack overflow",
        ),
        ("kernel text", r"^traps: .* kernel "),
        ("unregister", r"^unregister_netdevice: waiting for"),
    ]
    .into_iter()
    .filter_map(|(kind, pattern)| Some((kind, Regex::new(pattern).ok()?)))
    .collect()
});

/// `[   12.345678] `, `[   12.345678][   T99] `, and a facility such as `watchdog: ` or `rcu: `
/// stays.
static STAMP: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(<\d+>)?(\[ *\d+\.\d+\]\s?)(\[ *[CT]\d+\]\s)?").ok());

/// Takes the time stamp off a line of the console.
pub fn strip_stamp(line: &str) -> &str {
    let line = line.trim_end_matches(['\r', '\n']);
    STAMP
        .as_ref()
        .and_then(|stamp| stamp.find(line))
        .map_or(line, |stamp| &line[stamp.end()..])
}

fn kind(message: &str) -> Option<&'static str> {
    KINDS
        .iter()
        .find(|(_, regex)| regex.is_match(message))
        .map(|(kind, _)| *kind)
}

/// A splat that is being collected.
#[derive(Debug)]
struct Open {
    splat: Splat,
    /// Has a title of its own, not only a frame or a stack trace.
    titled: bool,
    /// Ends with `---[ end trace`.
    framed: bool,
    /// Ends with a line of `=`.
    boxed: bool,
    trace: bool,
    /// Has a trace as arm64 writes it, with nothing around the frames.
    bare: bool,
    /// Is one line, to which nothing belongs that comes after it.
    single: bool,
    quiet: usize,
}

/// Lines before a stack trace that are looked at for what caused it.
const CONTEXT: usize = 24;

/// Reads the console line by line.
#[derive(Debug, Default)]
pub struct Detector {
    open: Option<Open>,
    before: VecDeque<String>,
}

/// Lines between the cause of a stack trace and the trace, as `dump_stack()` and `show_regs()`
/// print them.
fn is_machine_state(line: &str) -> bool {
    let Some((head, _)) = line.split_once(':') else {
        return false;
    };
    let register = head.len() <= 6
        && head
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    register
        || matches!(
            head,
            "Hardware name" | "Workqueue" | "Code" | "Tainted" | "Modules linked in"
        )
}

impl Detector {
    /// Takes one line. Returns a splat that is over with it.
    pub fn line(&mut self, line: &str) -> Option<Splat> {
        let message = strip_stamp(line);
        let finished = self.take(message);
        if !message.is_empty() {
            if self.before.len() == CONTEXT {
                self.before.pop_front();
            }
            self.before.push_back(message.into());
        }
        finished
    }

    /// The splat that is open at a point after which nothing belongs to it.
    pub fn flush(&mut self) -> Option<Splat> {
        let open = self.open.take()?;
        // A frame with nothing in it that is known is still no good sign.
        Some(open.splat)
    }

    fn take(&mut self, message: &str) -> Option<Splat> {
        let cut_here = message.contains("[ cut here ]");
        let heading = kind(message);
        let bare = message.starts_with("Call trace:");
        let trace = bare || message.starts_with("Call Trace:") || message.trim() == "<TASK>";
        let Some(open) = &mut self.open else {
            if cut_here || heading.is_some() || trace {
                let boxed = self.before.back().is_some_and(|line| is_box(line));
                // What comes before explains it: the box's lid, or the cause of the trace.
                let explains = if trace {
                    let cause = self.before.iter().rposition(|line| !is_machine_state(line));
                    cause.map_or(0, |cause| self.before.len() - cause)
                } else {
                    usize::from(boxed)
                };
                let mut lines: Vec<String> = self
                    .before
                    .range(self.before.len() - explains..)
                    .cloned()
                    .collect();
                let title = match lines.first() {
                    Some(cause) if trace => cause.clone(),
                    _ => message.to_owned(),
                };
                lines.push(message.to_owned());
                self.open = Some(Open {
                    splat: Splat {
                        kind: heading.unwrap_or(if trace { "stack trace" } else { "WARNING" }),
                        title,
                        lines,
                    },
                    titled: heading.is_some(),
                    framed: cut_here,
                    boxed: boxed && matches!(heading, Some("KASAN" | "KFENCE" | "KCSAN" | "KMSAN")),
                    trace,
                    bare,
                    single: heading == Some("kmemleak"),
                    quiet: 0,
                });
            }
            return None;
        };
        // Another one begins, or may begin, before this one has ended.
        let whole = open.trace && !open.boxed && (open.titled || (open.bare && !open.framed));
        if open.single || cut_here || (heading.is_some() && whole) {
            let done = self.flush();
            self.take(message);
            return done;
        }
        if let (Some(heading), false) = (heading, open.titled) {
            open.splat.kind = heading;
            open.splat.title = message.into();
            open.titled = true;
        }
        open.trace |= trace;
        open.bare |= bare;
        open.framed |= matches!(
            open.splat.kind,
            "Oops" | "general protection" | "kernel BUG"
        ) && message.starts_with("Oops");
        if open.splat.lines.len() < LINES {
            open.splat.lines.push(message.into());
        }
        let ends = if message.contains("---[ end ") {
            true
        } else if open.boxed {
            is_box(message)
        } else if open.framed {
            false
        } else {
            // A stall has a trace for each processor.
            let several = match open.splat.kind {
                "Oops" => true,
                "RCU" => !open.splat.title.contains("suspicious"),
                _ => false,
            };
            let left = open.bare && !trace && !message.starts_with(' ');
            (message.trim() == "</TASK>" || left) && !several
        };
        open.quiet = if heading.is_some() || trace {
            0
        } else {
            open.quiet + usize::from(!message.trim().is_empty())
        };
        // Lockdep shows each step of the chain before its own stack trace.
        let patience = match open.splat.kind {
            "lockdep" => LINES,
            _ => QUIET_LINES,
        };
        let faded = !open.trace && !open.boxed && !open.framed && open.quiet >= patience;
        let endless = open.quiet >= LINES;
        if ends || faded || endless {
            return self.flush();
        }
        None
    }
}

fn is_box(message: &str) -> bool {
    message.len() >= 20 && message.bytes().all(|byte| byte == b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(console: &str) -> Vec<Splat> {
        let mut detector = Detector::default();
        let mut found: Vec<Splat> = console
            .lines()
            .filter_map(|line| detector.line(line))
            .collect();
        found.extend(detector.flush());
        found
    }

    /// A boot that is fine, with words that look bad.
    const HEALTHY: &str = "\
[    0.000000] Linux version 7.3.4 (gcc-14)
[    0.000000] Command line: console=ttyS0 panic=-1 oops=panic
[    0.010000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
[    0.100000] ACPI BIOS Warning (bug): 32/64X length mismatch
[    0.200000] KASLR disabled
[    0.300000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15757)
[    0.400000] rcu: Hierarchical SRCU implementation.
[    0.500000] kfence: initialized - using 2097152 bytes for 255 objects
[    0.600000] DMAR: DRHD: handling fault status reg 2
[    0.700000] DMA-API: preallocated 65536 debug entries
[    0.700000] DMA-API: debugging enabled by kernel config
[    1.000000] nvme 0000:01:00.0: cannot be used for peer-to-peer DMA as the client and provider
[    1.100000] test[99]: segfault at 0 ip 0 sp 0 error 4
[    2.000000] reboot: Power down
";

    #[test]
    fn a_healthy_boot_has_none() {
        assert_eq!(find(HEALTHY), []);
    }

    #[test]
    fn all_kinds_compile() {
        assert_eq!(KINDS.len(), 33);
        assert!(STAMP.is_some());
    }

    #[test]
    fn misuse_of_dma_is_found() {
        let found = find(
            "[    5.1] DMA-API: nvme 0000:01:00.0: device driver tries to free DMA memory it has \
             not allocated [device address=0x1] [size=4096 bytes]\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, "DMA-API");
    }

    #[test]
    fn time_stamps_are_taken_off() {
        assert_eq!(strip_stamp("[    1.234567] BUG: x\r"), "BUG: x");
        assert_eq!(strip_stamp("[    1.234567][   T12] BUG: x"), "BUG: x");
        assert_eq!(strip_stamp("[12345.234567] [C1] x"), "x");
        assert_eq!(strip_stamp("[not a stamp] x"), "[not a stamp] x");
    }

    #[test]
    fn a_warning_is_found_whole() {
        let found = find(
            "[    5.0] harmless\n\
             [    5.1] ------------[ cut here ]------------\n\
             [    5.1] Misaligned memremap_pages start 0xfe000000\n\
             [    5.1] WARNING: mm/memory_hotplug.c:1 at check_hotplug_memory+0x1, CPU#1: init/1\n\
             [    5.1] Modules linked in: nvme(+)\n\
             [    5.1] Call Trace:\n\
             [    5.1]  <TASK>\n\
             [    5.1]  memremap_pages+0x1/0x2\n\
             [    5.1]  </TASK>\n\
             [    5.1] irq event stamp: 0\n\
             [    5.1] ---[ end trace 0000000000000000 ]---\n\
             [    5.2] harmless again\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, "WARNING");
        assert!(found[0].title.contains("check_hotplug_memory"));
        assert_eq!(found[0].lines.len(), 10);
    }

    #[test]
    fn each_kind_is_named() {
        for (line, kind) in [
            (
                "WARNING: possible circular locking dependency detected",
                "lockdep",
            ),
            ("WARNING: possible recursive locking detected", "lockdep"),
            ("WARNING: inconsistent lock state", "lockdep"),
            (
                "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
                "lockdep",
            ),
            ("WARNING: suspicious RCU usage", "RCU"),
            ("rcu: INFO: rcu_preempt self-detected stall on CPU", "RCU"),
            (
                "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                "RCU",
            ),
            (
                "INFO: task kworker/0:1:9 blocked for more than 120 seconds.",
                "hung task",
            ),
            (
                "INFO: task a:9 blocked in I/O wait for more than 120 seconds.",
                "hung task",
            ),
            (
                "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [a:99]",
                "soft lockup",
            ),
            (
                "kmemleak: 3 new suspected memory leaks (see /sys)",
                "kmemleak",
            ),
            ("BUG: KASAN: slab-use-after-free in f+0x1/0x2", "KASAN"),
            ("BUG: KFENCE: use-after-free read in f+0x1/0x2", "KFENCE"),
            ("UBSAN: array-index-out-of-bounds in a.c:1:1", "UBSAN"),
            ("refcount_t: underflow; use-after-free.", "refcount"),
            (
                "BUG: kernel NULL pointer dereference, address: 0",
                "kernel BUG",
            ),
            (
                "BUG: sleeping function called from invalid context at a.c:1",
                "kernel BUG",
            ),
            ("BUG: Bad page state in process a  pfn:1", "kernel BUG"),
            ("BUG: workqueue lockup - pool cpus=0", "workqueue lockup"),
            ("kernel BUG at mm/slub.c:1!", "kernel BUG"),
            (
                "general protection fault, probably for non-canonical address",
                "general protection",
            ),
            (
                "Oops: general protection fault, maybe for address 0x0",
                "Oops",
            ),
            ("Oops: Oops: 0002 [#1] SMP", "Oops"),
            ("Kernel panic - not syncing: Fatal exception", "panic"),
            (
                "a: page allocation failure: order:4, mode:0x0",
                "page allocation",
            ),
            (
                "BUG kmalloc-64 (Not tainted): Redzone overwritten",
                "slab corruption",
            ),
        ] {
            let found = find(&format!("[    1.000000] {line}\n"));
            assert_eq!(found.len(), 1, "{line}");
            assert_eq!(found[0].kind, kind, "{line}");
            assert_eq!(found[0].title, line);
        }
    }

    #[test]
    fn a_trace_without_heading_is_one_too() {
        let found = find(
            "[ 1.0] sysfs: cannot create duplicate filename '/x'\n\
             [ 1.0] CPU: 1 UID: 0 PID: 1 Comm: init Not tainted 7.3.4 #1\n\
             [ 1.0] Hardware name: QEMU, BIOS 1.17: 2014\n\
             [ 1.0] RIP: 0033:0x7fd7f8ad9c27\n\
             [ 1.0] Call Trace:\n\
             [ 1.0]  <TASK>\n\
             [ 1.0]  f+0x1\n\
             [ 1.0]  </TASK>\n\
             [ 1.0] next\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, "stack trace");
        assert!(found[0].title.contains("duplicate filename"));
        assert_eq!(found[0].lines.len(), 8);
    }

    #[test]
    fn suspicious_rcu_usage_is_one_with_its_trace() {
        let found = find(
            "[ 1.0] =============================\n\
             [ 1.0] WARNING: suspicious RCU usage\n\
             [ 1.0] 7.3.4-p2pdma-debug #1 Tainted: G           O       \n\
             [ 1.0] -----------------------------\n\
             [ 1.0] ../source/include/linux/radix-tree.h:179 suspicious rcu_dereference_check() \
             usage!\n\
             [ 1.0] \n\
             [ 1.0] other info that might help us debug this:\n\
             [ 1.0] \n\
             [ 1.0] \n\
             [ 1.0] rcu_scheduler_active = 2, debug_locks = 1\n\
             [ 1.0] locks held by p2pdma_nvmet_co/119: 1, last CPU#1:\n\
             [ 1.0]  #0: ff1100000a12b868 (&subsys->lock#2){+.+.}-{4:4}, at: nvmet_ctrl_put+0x74\n\
             [ 1.0] \n\
             [ 1.0] stack backtrace:\n\
             [ 1.0] CPU: 1 UID: 0 PID: 119 Comm: p2pdma_nvmet_co Tainted: G           O        \
             7.3.4\n\
             [ 1.0] Tainted: [O]=OOT_MODULE\n\
             [ 1.0] Call Trace:\n\
             [ 1.0]  <TASK>\n\
             [ 1.0]  lockdep_rcu_suspicious+0x1ed/0x230\n\
             [ 1.0]  nvmet_ctrl_put+0x1f0/0x680\n\
             [ 1.0]  </TASK>\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, "RCU");
    }

    #[test]
    fn what_follows_suspicious_rcu_usage_is_another() {
        let found = find(
            "[ 1.0] WARNING: suspicious RCU usage\n\
             [ 1.0] Call Trace:\n\
             [ 1.0]  <TASK>\n\
             [ 1.0]  nvmet_ctrl_put+0x1f0/0x680\n\
             [ 1.0]  </TASK>\n\
             [ 1.0] sysfs: cannot create duplicate filename '/x'\n\
             [ 1.0] Call Trace:\n\
             [ 1.0]  <TASK>\n\
             [ 1.0]  </TASK>\n",
        );
        let kinds: Vec<&str> = found.iter().map(|splat| splat.kind).collect();
        assert_eq!(kinds, ["RCU", "stack trace"]);
    }

    #[test]
    fn traces_of_arm64_have_nothing_around_them() {
        let found = find(
            "[ 1.0] sysfs: cannot create duplicate filename '/x'\n\
             [ 1.0] CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 7.3.4 #1\n\
             [ 1.0] Hardware name: linux,dummy-virt (DT)\n\
             [ 1.0] Call trace:\n\
             [ 1.0]  show_stack+0x20/0x38 (C)\n\
             [ 1.0]  dump_stack_lvl+0x60/0x80\n\
             [ 1.0] BUG: sleeping function called from invalid context at a.c:1\n\
             [ 1.0] Call trace:\n\
             [ 1.0]  show_stack+0x20/0x38 (C)\n\
             [ 1.0] pcieport 0000:00:07.0: pciehp: Slot(7): Card not present\n\
             [ 1.0] WARNING: possible circular locking dependency detected\n\
             [ 1.0] Call trace:\n\
             [ 1.0]  show_stack+0x20/0x38 (C)\n\
             [ 1.0]  lock_acquire+0x60/0x80\n\
             [ 1.0] ==================================================================\n\
             [ 1.0] BUG: KASAN: slab-use-after-free in f+0x1/0x2\n\
             [ 1.0] Call trace:\n\
             [ 1.0]  f+0x1/0x2\n\
             [ 1.0] ==================================================================\n",
        );
        let kinds: Vec<&str> = found.iter().map(|splat| splat.kind).collect();
        assert_eq!(kinds, ["stack trace", "kernel BUG", "lockdep", "KASAN"]);
        assert!(found[0].title.contains("duplicate filename"));
    }

    #[test]
    fn that_there_are_leaks_is_one_line() {
        let found = find(
            "[ 1.0] kmemleak: 2 new suspected memory leaks (see /sys)\n\
             [ 1.1] WARNING: possible circular locking dependency detected\n\
             [ 1.1] Call Trace:\n\
             [ 1.1]  <TASK>\n\
             [ 1.1]  </TASK>\n\
             [ 1.2] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n\
             [ 1.2] Call Trace:\n\
             [ 1.2]  <TASK>\n\
             [ 1.2]  </TASK>\n\
             [ 1.3] kmemleak: 3 new suspected memory leaks (see /sys)\n\
             [ 1.4] all is well\n",
        );
        let kinds: Vec<&str> = found.iter().map(|splat| splat.kind).collect();
        assert_eq!(kinds, ["kmemleak", "lockdep", "RCU", "kmemleak"]);
    }

    #[test]
    fn a_circle_of_locks_is_one_with_its_trace() {
        let step = "[ 1.0]        pciehp_ist+0x1c9/0x710\n".repeat(30);
        let found = find(&format!(
            "[ 1.0] ======================================================\n\
             [ 1.0] WARNING: possible circular locking dependency detected\n\
             {step}\
             [ 1.0] stack backtrace:\n\
             [ 1.0] Call Trace:\n\
             [ 1.0]  <TASK>\n\
             [ 1.0]  pciehp_unconfigure_device+0x150/0x280\n\
             [ 1.0]  </TASK>\n\
             [ 1.0] pcieport 0000:00:07.0: pciehp: Slot(7): Card not present\n",
        ));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, "lockdep");
    }

    #[test]
    fn kasan_reports_end_with_their_box() {
        let bar = "=".repeat(66);
        let found = find(&format!(
            "[ 1.0] {bar}\n\
             [ 1.0] BUG: KASAN: slab-out-of-bounds in f+0x1\n\
             [ 1.0] Call Trace:\n\
             [ 1.0]  <TASK>\n\
             [ 1.0]  </TASK>\n\
             [ 1.0] Allocated by task 1:\n\
             [ 1.0]  g+0x1\n\
             [ 1.0] {bar}\n\
             [ 1.0] healthy\n"
        ));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].lines.len(), 8);
        assert!(found[0].lines[6].contains("g+0x1"));
    }

    #[test]
    fn an_oops_and_the_panic_after_it_are_two() {
        let found = find(
            "[ 1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
             [ 1.0] #PF: supervisor write access in kernel mode\n\
             [ 1.0] Oops: Oops: 0002 [#1] SMP\n\
             [ 1.0] Call Trace:\n\
             [ 1.0]  <TASK>\n\
             [ 1.0]  f+0x1\n\
             [ 1.0]  </TASK>\n\
             [ 1.0] CR2: 0000000000000000\n\
             [ 1.0] ---[ end trace 0000000000000000 ]---\n\
             [ 1.0] Kernel panic - not syncing: Fatal exception\n",
        );
        let kinds: Vec<_> = found.iter().map(|splat| splat.kind).collect();
        assert_eq!(kinds, ["kernel BUG", "panic"]);
        assert!(found[0].lines.iter().any(|line| line.contains("end trace")));
    }

    #[test]
    fn two_in_a_row_are_two() {
        let one = "[ 1.0] ------------[ cut here ]------------\n\
                   [ 1.0] WARNING: a.c:1 at f+0x1, CPU#0: a/1\n";
        let found = find(&one.repeat(2));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].lines.len(), 2);
    }

    #[test]
    fn an_endless_one_is_cut() {
        let mut console = "[ 1.0] Call Trace:\n".to_string();
        console += &"[ 1.0]  f+0x1\n".repeat(10_000);
        let found = find(&console);
        assert_eq!(found[0].kind, "stack trace");
        assert!(found[0].lines.len() <= LINES + 1);
    }
}
