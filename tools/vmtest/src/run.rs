// SPDX-License-Identifier: GPL-2.0

//! Runs tests in one topology: builds its guest, boots it, and boots it again if a test took it
//! down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use tempfile::NamedTempFile;
use vmtest_guest::{Mode, Module, NvmeController, Plan, PLAN_PATH};

use crate::elf::{closure, Root};
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::ktap::Status;
use crate::machine::Machine;
use crate::modules::{Image, Library};
use crate::monitor::{Ending, Limits, Monitor, Notice, Raw};
use crate::qemu::{self, Wiring};
use crate::report::{
    judge, judge_kernel_log, known_crash, required, skipped, without_excuse, TestReport,
    TopologyReport,
};
use crate::schedule::Part;
use crate::suite::{Suite, Test};
use crate::topology::Topology;

/// How often a topology is booted again because its kernel came to nothing before init, as those
/// do whose processors are emulated; and how often because its kernel died of a known defect.
const TRIES: usize = 2;

/// Name of the guest's init among the programs.
pub const GUEST: &str = "vmtest-guest";

/// The shell of the guest, where it has one.
pub const BUSYBOX: &str = "/bin/busybox";

/// What all runs of one invocation have in common.
pub struct Setup {
    /// The kernel to boot.
    pub kernel: Kernel,
    /// The same without what unpacks it in the guest, if it can be booted so.
    pub unpacked: Option<NamedTempFile>,
    /// The test suite.
    pub suite: Suite,
    /// The project's own modules.
    pub module_dir: Option<PathBuf>,
    /// Where programs are looked for.
    pub bin_dirs: Vec<PathBuf>,
    /// Where the guest's files are.
    pub root: Root,
    /// QEMU.
    pub qemu: PathBuf,
    /// How much slower than usual this machine or kernel is.
    pub scale: f64,
    /// How many threads want each processor.
    pub load: f64,
    /// Set when the user wants to stop.
    pub interrupted: &'static AtomicBool,
    /// Whether QEMU has run a guest of this run's.
    pub has_run: AtomicBool,
}

/// Who wants to know what happens.
pub trait Sink {
    /// Another stage of the boot.
    fn stage(&mut self, stage: &str) -> Result<()>;
    /// A test begins.
    fn started(&mut self, test: &Test) -> Result<()>;
    /// A line of its output, and whether it is known to come from standard error.
    fn output(&mut self, line: &str, err: bool) -> Result<()>;
    /// A test is judged.
    fn finished(&mut self, report: &TestReport) -> Result<()>;
}

/// What a guest is made of, apart from its plan.
pub struct Guest {
    /// The initramfs.
    archive: Vec<u8>,
    /// Modules that are loaded at boot.
    modules: Vec<Module>,
    /// Modules that are loaded for each test, in the order of the tests.
    test_modules: Vec<Vec<Module>>,
}

impl Setup {
    fn find_program(&self, name: &str) -> Result<PathBuf> {
        for directory in &self.bin_dirs {
            let path = directory.join(name);
            if path.is_file() {
                return Ok(path);
            }
        }
        let searched: Vec<String> = self
            .bin_dirs
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
        bail!(
            "program {name} is not built: it is in none of {}; `make` builds it, --bin-dir says \
             where else to look",
            searched.join(", ")
        )
    }

    /// What QEMU boots in `topology`.
    pub fn image(&self, topology: &Topology) -> &Path {
        match &self.unpacked {
            Some(file) if !topology.kaslr => file.path(),
            _ => &self.kernel.image,
        }
    }

    fn library(&self) -> Library<'_> {
        Library::new(&self.kernel, self.module_dir.as_deref())
    }

    /// Why `test` is not run on this kernel: kernels of the user's need not have all modules. Those
    /// of the project do not depend on how a kernel is configured: `make modules` makes them.
    fn lacks(&self, library: &Library<'_>, test: &Test) -> Option<String> {
        let collection = &self.suite.collection;
        let name = library.lacks(&test.modules)?;
        (self.kernel.is_own() && !name.starts_with(collection)).then(|| {
            format!(
                "kernel {} has no module {name}; tools/testing/selftests/{collection}/config lists \
                 what tests need",
                self.kernel.release
            )
        })
    }

    /// Looks for what is needed, before anything is started or said.
    pub fn check(&self, work: &[(&Topology, Vec<&Test>)]) -> Result<()> {
        let library = self.library();
        self.find_program(GUEST)?;
        library.check(&self.suite.modules)?;
        for (topology, tests) in work {
            library
                .check(&topology.modules)
                .with_context(|| format!("needed by topology {}", topology.name))?;
            for test in tests {
                self.find_program(test.program())?;
                if self.lacks(&library, test).is_none() {
                    library
                        .check(&test.modules)
                        .with_context(|| format!("needed by test {}", test.name))?;
                }
            }
        }
        Ok(())
    }

    /// Directory of the test programs in the guest.
    fn guest_dir(&self) -> String {
        format!("/{}", self.suite.collection)
    }

    fn guest_path(&self, program: &str) -> String {
        format!("{}/{program}", self.guest_dir())
    }

    /// Makes the guest for `topology` with what `tests` need.
    pub fn guest(&self, topology: &Topology, tests: &[&Test], extra: &Extra) -> Result<Guest> {
        let mut archive = Initramfs::new();
        let init = self.find_program(GUEST)?;
        for (path, bytes) in closure(&init, &self.root)? {
            archive.program(
                if path == init {
                    Path::new("/init")
                } else {
                    &path
                },
                bytes,
            );
        }
        let programs: BTreeSet<&str> = tests
            .iter()
            .flat_map(|test| {
                let further = test.programs.iter().map(String::as_str);
                std::iter::once(test.program()).chain(further)
            })
            .chain(extra.programs.iter().map(String::as_str))
            .collect();
        for name in programs {
            let program = self.find_program(name)?;
            let own = self.guest_path(name);
            for (path, bytes) in closure(&program, &self.root)? {
                let path = if path == program {
                    Path::new(&own)
                } else {
                    &path
                };
                archive.program(path, bytes);
            }
        }
        let files = tests.iter().flat_map(|test| &test.files);
        let shell = topology.prepare.is_some().then(|| BUSYBOX.to_owned());
        let files = files.chain(&extra.files).chain(&topology.files);
        for file in files.chain(&shell) {
            add_file(&mut archive, &self.root, Path::new(file))?;
        }
        if archive.contains("/bin/sh") || archive.contains(BUSYBOX) {
            // A script's interpreter; the root's may be too big, and busybox is static.
            archive.link("/bin/sh", "busybox");
        }

        let library = self.library();
        let mut have = BTreeSet::new();
        let wanted: Vec<String> = topology
            .modules
            .iter()
            .chain(&self.suite.modules)
            .chain(&extra.modules)
            .cloned()
            .collect();
        let mut put = |images: Vec<Image>| -> Vec<Module> {
            images
                .into_iter()
                .map(|image| {
                    let path = format!("/vmtest/{}.ko", image.name);
                    archive.file(&path, image.bytes);
                    Module {
                        name: image.name,
                        path,
                        params: image.params,
                    }
                })
                .collect()
        };
        let modules = put(library.resolve(&wanted, &mut have)?);
        let mut test_modules = Vec::new();
        for test in tests {
            // A test may be the first of its boot, so each names all that it needs; the guest loads
            // a module once.
            let mut fresh = modules.iter().map(|module| module.name.clone()).collect();
            // In a shell, what does not need them can be tried.
            let wanted = match self.lacks(&library, test) {
                Some(_) => &[][..],
                None => &test.modules,
            };
            let images = library
                .resolve(wanted, &mut fresh)
                .with_context(|| format!("needed by test {}", test.name))?;
            test_modules.push(put(images));
        }
        let mut bytes = Vec::new();
        archive.write(&mut bytes)?;
        Ok(Guest {
            archive: bytes,
            modules,
            test_modules,
        })
    }

    /// Environment of each test program.
    pub fn environment(&self, topology: &Topology) -> BTreeMap<String, String> {
        let mut environment = topology.environment();
        let path = format!("{}:/bin:/sbin:/usr/bin:/usr/sbin", self.guest_dir());
        let (scale, load) = (self.scale.to_string(), self.load.to_string());
        for (key, value) in [
            ("PATH", path.as_str()),
            ("P2PDMA_TIMEOUT_SCALE", scale.as_str()),
            ("P2PDMA_LOAD", load.as_str()),
            ("HOME", "/root"),
            ("TMPDIR", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("TERM", "dumb"),
        ] {
            environment.insert(key.into(), value.into());
        }
        environment
    }

    /// Writes the initramfs of one boot: the guest, and an archive with the plan behind it.
    pub fn write_initramfs(&self, guest: &Guest, plan: &Plan, path: &Path) -> Result<()> {
        let mut archive = Initramfs::default();
        archive.file(PLAN_PATH, serde_json::to_vec(plan)?);
        let mut bytes = Vec::new();
        archive.write(&mut bytes)?;
        File::create(path)
            .and_then(|mut file| {
                file.write_all(&guest.archive)?;
                file.write_all(&bytes)
            })
            .with_context(|| path.display().to_string())
    }

    /// The plan of a boot, without tests.
    pub fn plan(&self, guest: &Guest, topology: &Topology, mode: Mode) -> Plan {
        let nvme_is_loaded = guest.modules.iter().any(|module| module.name == "nvme")
            || self.kernel.builtin.contains("nvme");
        let nvme = topology
            .devices
            .iter()
            .filter(|device| nvme_is_loaded && device.driver == "nvme")
            .filter_map(|device| {
                Some(NvmeController {
                    serial: device.text("serial")?.into(),
                    namespace: topology.has_namespace(device),
                })
            })
            .collect();
        Plan {
            token: token(),
            mode,
            modules: guest.modules.clone(),
            nvme,
            driver_override: topology.driver_override.clone(),
            prepare: topology.prepare.clone(),
            tests: Vec::new(),
            kmemleak: true,
            patience: ((self.scale * self.load).max(1.0) * 100.0) as u32,
        }
    }

    /// Runs `tests` in `topology`. The console goes to `log`.
    pub fn run(
        &self,
        topology: &Topology,
        tests: &[&Test],
        extra: &Extra,
        log: &Path,
        sink: &mut dyn Sink,
    ) -> Result<TopologyReport> {
        let library = self.library();
        let mut reports = Vec::new();
        let mut able = Vec::new();
        for &test in tests {
            match self.lacks(&library, test) {
                Some(why) => {
                    let report = skipped(test, why);
                    sink.started(test)?;
                    sink.finished(&report)?;
                    reports.push(report);
                }
                None => able.push(test),
            }
        }
        let tests = &able[..];
        let guest = self.guest(topology, tests, extra)?;
        let mut log = create(log)?;
        let mut course = Course {
            setup: self,
            topology,
            tests,
            guest,
            reports: Vec::new(),
            splats: Vec::new(),
            problems: Vec::new(),
            kmemleak: Vec::new(),
            console: Vec::new(),
            boot_seconds: 0.0,
            failures: Vec::new(),
            crashes: 0,
        };
        let start = Instant::now();
        let mut boots = 0;
        loop {
            boots += 1;
            let before = course.reports.len();
            let failures = course.failures.len();
            let lost = course.boot(&mut log, sink)?;
            if course.failures.len() > failures {
                continue;
            }
            if course.reports.len() == tests.len() {
                break;
            }
            // A boot that got no test done will not do better the next time.
            if course.reports.len() > before {
                continue;
            }
            let why = lost.unwrap_or_else(|| "the guest skipped it".into());
            for (test, spec) in tests.iter().enumerate().skip(course.reports.len()) {
                let raw = Raw {
                    test,
                    ending: Ending::NotRun { why: why.clone() },
                    output: Vec::new(),
                    splats: Vec::new(),
                    taint: 0,
                    duration: Duration::ZERO,
                };
                sink.started(spec)?;
                course.finish(raw, sink)?;
            }
            break;
        }
        let mut kernel_log = judge_kernel_log(
            &course.splats,
            &course.problems,
            &course.kmemleak,
            &self.suite.known_leaks(tests)?,
            &course.console,
        );
        let again = |failure: &String| format!("booted again: {failure}");
        kernel_log
            .diagnostics
            .extend(course.failures.iter().map(again));
        sink.finished(&kernel_log)?;
        reports.append(&mut course.reports);
        reports.push(kernel_log);
        Ok(TopologyReport {
            name: topology.name.clone(),
            part: Part::WHOLE,
            accelerator: qemu::accelerator(topology, self.kernel.arch).into(),
            tests: reports,
            boots,
            seconds: start.elapsed().as_secs_f64(),
            boot_seconds: course.boot_seconds,
        })
    }
}

/// What a guest needs beyond its tests.
#[derive(Debug, Default)]
pub struct Extra {
    /// Programs from the program directories.
    pub programs: Vec<String>,
    /// Files of the root.
    pub files: Vec<String>,
    /// Modules to load at boot.
    pub modules: Vec<String>,
}

/// All boots of one topology.
struct Course<'a> {
    setup: &'a Setup,
    topology: &'a Topology,
    tests: &'a [&'a Test],
    guest: Guest,
    reports: Vec<TestReport>,
    splats: Vec<crate::splat::Splat>,
    problems: Vec<String>,
    kmemleak: Vec<String>,
    console: Vec<String>,
    boot_seconds: f64,
    /// Boots that are not counted, as the emulation failed, or the kernel died of a known defect.
    failures: Vec<String>,
    /// How many of them the kernel died in.
    crashes: usize,
}

impl Course<'_> {
    /// Boots once, for the tests that are still to run. Says how the guest was lost, if it was.
    fn boot(&mut self, log: &mut File, sink: &mut dyn Sink) -> Result<Option<String>> {
        let setup = self.setup;
        let directory = tempfile::Builder::new()
            .prefix("vmtest-")
            .tempdir()
            .context("no temporary directory")?;
        let at = |name: &str| directory.path().join(name);
        let first = self.reports.len();
        let environment = setup.environment(self.topology);
        let mut plan = setup.plan(&self.guest, self.topology, Mode::Tests);
        for (index, test) in self.tests.iter().enumerate().skip(first) {
            let mut env = environment.clone();
            env.extend(test.env.clone());
            let mut argv = vec![setup.guest_path(test.program())];
            argv.extend(test.args.iter().cloned());
            plan.tests.push(vmtest_guest::Test {
                index,
                argv,
                env,
                modules: self.guest.test_modules[index].clone(),
                output_limit: test.output_limit(),
                timeout_ms: test.timeout() * 1000,
                separate: test.separate,
            });
        }
        let initramfs = at("initramfs");
        setup.write_initramfs(&self.guest, &plan, &initramfs)?;
        let (console, port) = (at("console"), at("port"));
        let command = qemu::command(
            &setup.qemu,
            self.topology,
            &setup.kernel,
            setup.image(self.topology),
            &initramfs,
            directory.path(),
            &Wiring::Files {
                console: &console,
                port: &port,
            },
        )?;
        writeln!(log, "# {}", qemu::shell_words(&command))?;
        sink.stage("starting the machine")?;
        let start = Instant::now();
        let machine = Machine::start(command, &console, &port)
            .with_context(|| format!("topology {}", self.topology.name))?;
        let limits = self
            .tests
            .iter()
            .enumerate()
            .skip(first)
            .map(|(index, test)| (index, Duration::from_secs(test.timeout())))
            .collect::<Vec<_>>();
        let mut monitor = Monitor::new(
            &plan.token,
            Limits::scaled(setup.scale * setup.load),
            limits,
            start,
        );
        let mut booted = None;
        let exit = machine.watch(
            &mut monitor,
            log,
            setup.interrupted,
            &mut |notice| match notice {
                Notice::Stage(stage) => sink.stage(&stage),
                Notice::Started(test) => {
                    booted.get_or_insert_with(|| start.elapsed());
                    sink.started(self.tests[test])
                }
                Notice::Output(line, err) => sink.output(&line, err),
                Notice::Finished(raw) => self.finish(*raw, sink),
            },
        )?;
        if monitor.console_spoke() {
            setup.has_run.store(true, Ordering::Relaxed);
        } else if exit.status.is_some_and(|status| !status.success()) {
            let why = format!("QEMU does not run: {}", exit.messages.join("; "));
            if !setup.has_run.load(Ordering::Relaxed) {
                bail!("topology {}: {why}", self.topology.name);
            }
            // It has run others: what those have shown is not given up for what the machine lacks.
            self.problems.push(why.clone());
            return Ok(Some(why));
        }
        if let Some(release) = &monitor.release {
            if *release != setup.kernel.release {
                self.problems.push(format!(
                    "the kernel that runs says it is {release}, not {}",
                    setup.kernel.release
                ));
            }
        }
        if first == 0 {
            self.boot_seconds = booted.unwrap_or_else(|| start.elapsed()).as_secs_f64();
        }
        let lost = monitor.lost.take();
        let emulated = qemu::accelerator(self.topology, setup.kernel.arch).starts_with("tcg");
        let failures = self.failures.len() - self.crashes;
        if emulated && monitor.emulation_failed() && failures < TRIES {
            let splat = monitor.splats.first().map(|splat| splat.title.as_str());
            let what = [lost.as_deref(), splat];
            let what: Vec<&str> = what.into_iter().flatten().collect();
            self.failures.push(what.join(": "));
            return Ok(lost);
        }
        if let (Some(lost), false) = (&lost, monitor.lost_by_test) {
            self.problems.push(lost.clone());
            self.console = monitor.console_tail();
        }
        self.splats.append(&mut monitor.splats);
        self.problems.append(&mut monitor.problems);
        if setup.kernel.check.kmemleak && monitor.done && monitor.kmemleak.is_none() {
            self.problems
                .push("kmemleak was not asked for leaks: this kernel does not have it".into());
        }
        self.kmemleak
            .extend(monitor.kmemleak.take().unwrap_or_default());
        Ok(lost)
    }

    fn finish(&mut self, raw: Raw, sink: &mut dyn Sink) -> Result<()> {
        let test = self.tests[raw.test];
        if self.crashes < TRIES {
            if let Some(name) = known_crash(test, &raw)? {
                self.crashes += 1;
                let said = format!("vmtest: the kernel died of \"{name}\": it is run again");
                sink.output(&said, false)?;
                self.failures
                    .push(format!("the kernel died of \"{name}\" in {}", test.name));
                return Ok(());
            }
        }
        let mut report = judge(test, raw)?;
        if self.setup.kernel.check.must_run.contains(&test.name) {
            report = required(report);
        }
        report = without_excuse(report, &self.setup.kernel.check.fixed);
        sink.finished(&report)?;
        if report.status != Status::Fail {
            report.output.clear();
        }
        self.reports.push(report);
        Ok(())
    }
}

fn token() -> String {
    let mut bytes = [0; 4];
    // Without randomness the process id will do: the token only has to be unlikely.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(4) {
        bytes = std::process::id().to_ne_bytes();
    }
    format!("{:08x}", u32::from_ne_bytes(bytes))
}

/// Adds a file of the root; a program brings its libraries.
fn add_file(archive: &mut Initramfs, root: &Root, path: &Path) -> Result<()> {
    let here = root.locate(path);
    let bytes = fs::read(&here)
        .with_context(|| format!("{}: needed in the guest, and not there", here.display()))?;
    if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!") {
        for (path, bytes) in closure(&here, root)? {
            archive.program(path, bytes);
        }
    } else {
        archive.file(path, bytes);
    }
    Ok(())
}

/// Creates a file of the results, with the directories above it.
pub fn create(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    File::create(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2pdma_common::{Arch, Check, OWN};

    fn setup(flavour: &str) -> Setup {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Setup {
            kernel: Kernel {
                flavour: flavour.into(),
                release: "7.3.4".into(),
                arch: Arch::HOST,
                image: PathBuf::new(),
                modules: BTreeMap::new(),
                builtin: BTreeSet::from(["loop".to_string()]),
                check: Check::default(),
            },
            unpacked: None,
            suite: toml::from_str("collection = \"p2pdma\"").expect("a suite"),
            module_dir: None,
            bin_dirs: vec!["/bin".into()],
            root: Root::of(Arch::HOST),
            qemu: PathBuf::new(),
            scale: 1.0,
            load: 1.0,
            interrupted: &NEVER,
            has_run: AtomicBool::new(false),
        }
    }

    #[test]
    fn only_kernels_of_the_users_may_lack_what_a_test_needs() {
        let why = |flavour: &str, modules: &[&str]| {
            let setup = setup(flavour);
            let test = Test {
                modules: modules.iter().map(|&name| name.into()).collect(),
                ..Test::default()
            };
            setup.lacks(&setup.library(), &test)
        };
        let said = why(OWN, &["loop", "null_blk nr_devices=1"]).expect("it lacks one");
        assert!(said.contains("no module null_blk;"), "{said}");
        assert!(said.contains("selftests/p2pdma/config"), "{said}");
        assert_eq!(why(OWN, &["loop"]), None);
        // That is an error: it was not built, or the testbed's kernel is not what it should be.
        assert_eq!(why(OWN, &["p2pdma_test"]), None);
        assert_eq!(why("stock", &["null_blk"]), None);
    }
}
