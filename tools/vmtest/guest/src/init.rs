// SPDX-License-Identifier: GPL-2.0

//! Process 1.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{mount, MountFlags};
use rustix::system::{finit_module, reboot, uname, RebootCommand};
use vmtest_guest::{
    marker, Edge, Event, Mode, Module, NvmeController, Outcome, Plan, Test, CONSOLE, PLAN_PATH,
};

use crate::exec;
use crate::report::Reporter;

/// How long the NVMe controllers of the topology may take to come up.
const NVME_LIMIT: Duration = Duration::from_secs(30);

/// How long killed processes may take to go.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// kmemleak reports no object younger than five seconds.
const KMEMLEAK_AGE: Duration = Duration::from_secs(6);

/// Lines of its report in one message.
const KMEMLEAK_PART: usize = 200;

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// Runs the plan. Never returns: the guest is powered off at the end.
pub fn main() -> ! {
    mount_filesystems();
    match fs::read(PLAN_PATH)
        .map_err(|error| error.to_string())
        .and_then(|plan| serde_json::from_slice::<Plan>(&plan).map_err(|error| error.to_string()))
    {
        Ok(plan) => carry_out(&plan),
        Err(error) => {
            if let Ok(mut reporter) = Reporter::open(true) {
                reporter.send(Event::Fatal {
                    message: format!("{PLAN_PATH}: {error}"),
                });
            }
        }
    }
    power_off()
}

fn power_off() -> ! {
    loop {
        let _ = reboot(RebootCommand::PowerOff);
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn carry_out(plan: &Plan) {
    let shell = plan.mode != Mode::Tests;
    let mut reporter = match Reporter::open(!shell) {
        Ok(reporter) => reporter,
        Err(error) => {
            // The console is all that is left.
            eprintln!(
                "vmtest: cannot open {}: {error}; the kernel needs CONFIG_SERIAL_8250 with two \
                 ports",
                vmtest_guest::PORT
            );
            return;
        }
    };
    reporter.send(Event::Hello {
        release: uname().release().to_string_lossy().into_owned(),
    });
    let mut loaded = BTreeSet::new();
    let result = prepare(plan, &mut reporter, &mut loaded);
    match (&plan.mode, result) {
        (_, Err(message)) => {
            if shell {
                eprintln!("vmtest: {message}");
            }
            reporter.send(Event::Fatal { message });
        }
        (Mode::Shell { rows, columns, env }, Ok(())) => {
            if let Err(message) = shell_on_console(*rows, *columns, env) {
                eprintln!("vmtest: {message}");
            }
        }
        (Mode::Tests, Ok(())) => {
            for test in &plan.tests {
                if !run_test(plan, test, &mut reporter, &mut loaded) {
                    return;
                }
            }
            if plan.kmemleak {
                kmemleak(&mut reporter);
            }
            reporter.send(Event::Bye);
        }
    }
}

fn prepare(
    plan: &Plan,
    reporter: &mut Reporter,
    loaded: &mut BTreeSet<String>,
) -> Result<(), String> {
    reporter.send(Event::Stage {
        name: "loading modules".into(),
    });
    for module in &plan.modules {
        load_module(module, loaded)?;
    }
    for (id, driver) in &plan.driver_override {
        override_driver(Path::new("/sys/bus/pci"), id, driver)?;
    }
    // May have come with a module.
    let _ = mount(
        "configfs",
        "/sys/kernel/config",
        "configfs",
        MountFlags::empty(),
        None,
    );
    if !plan.nvme.is_empty() {
        reporter.send(Event::Stage {
            name: "waiting for the NVMe controllers".into(),
        });
        wait_for_nvme(&plan.nvme, plan.limit(NVME_LIMIT))?;
    }
    if let Some(script) = &plan.prepare {
        reporter.send(Event::Stage {
            name: "preparing the devices".into(),
        });
        run_script(script)?;
    }
    Ok(())
}

/// Runs what the topology wants done, and tells what it said if it fails.
fn run_script(script: &str) -> Result<(), String> {
    let done = Command::new("/bin/sh")
        .args(["-euc", script])
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("prepare: /bin/sh: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.trim().replace('\n', "; ");
    Err(format!("prepare: {}: {said}", done.status))
}

fn mount_filesystems() {
    let table = [
        ("proc", "/proc", "proc"),
        ("sysfs", "/sys", "sysfs"),
        ("devtmpfs", "/dev", "devtmpfs"),
        ("devpts", "/dev/pts", "devpts"),
        ("tmpfs", "/dev/shm", "tmpfs"),
        ("tmpfs", "/tmp", "tmpfs"),
        ("tmpfs", "/run", "tmpfs"),
        ("debugfs", "/sys/kernel/debug", "debugfs"),
        ("tracefs", "/sys/kernel/tracing", "tracefs"),
        ("configfs", "/sys/kernel/config", "configfs"),
    ];
    for (source, target, kind) in table {
        let _ = fs::create_dir_all(target);
        // What a kernel does not have is missed by whoever needs it, and said there.
        let _ = mount(source, target, kind, MountFlags::empty(), None);
    }
}

fn load_module(module: &Module, loaded: &mut BTreeSet<String>) -> Result<(), String> {
    if !loaded.insert(module.name.clone()) {
        return Ok(());
    }
    let fail = |error: &dyn std::fmt::Display| {
        format!(
            "module {} does not load: {error}; the console log may say why",
            module.name
        )
    };
    let file = File::open(&module.path).map_err(|error| fail(&error))?;
    let params = CString::new(module.params.as_str()).map_err(|error| fail(&error))?;
    match finit_module(&file, &params, 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(fail(&error)),
    }
}

/// Binds all devices with that vendor and device id to the driver.
fn override_driver(bus: &Path, id: &str, driver: &str) -> Result<(), String> {
    let fail = |path: &Path, error: &dyn std::fmt::Display| {
        format!("driver_override \"{id}\": {}: {error}", path.display())
    };
    let devices = bus.join("devices");
    let mut found = false;
    for entry in fs::read_dir(&devices).map_err(|error| fail(&devices, &error))? {
        let device = entry.map_err(|error| fail(&devices, &error))?.path();
        let read = |name: &str| {
            let text = fs::read_to_string(device.join(name)).unwrap_or_default();
            text.trim().trim_start_matches("0x").to_owned()
        };
        if format!("{}:{}", read("vendor"), read("device")) != id {
            continue;
        }
        found = true;
        let address = device.file_name().unwrap_or_default().as_encoded_bytes();
        for (path, value) in [
            (device.join("driver_override"), driver.as_bytes()),
            (bus.join("drivers_probe"), address),
        ] {
            fs::write(&path, value).map_err(|error| fail(&path, &error))?;
        }
        let bound = fs::read_link(device.join("driver")).unwrap_or_default();
        if bound.file_name() != Some(driver.as_ref()) {
            let error = format!("{driver} does not take it; the console log may say why");
            return Err(fail(&device, &error));
        }
    }
    if !found {
        return Err(format!("driver_override \"{id}\": no device has this id"));
    }
    Ok(())
}

fn wait_for_nvme(wanted: &[NvmeController], limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let missing: Vec<&str> = wanted
            .iter()
            .filter(|controller| !nvme_is_up(controller))
            .map(|controller| controller.serial.as_str())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "NVMe controllers that did not come up in {} s: {}",
                limit.as_secs(),
                missing.join(", ")
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn nvme_is_up(wanted: &NvmeController) -> bool {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    entries(Path::new("/sys/class/nvme")).any(|controller| {
        let path = controller.path();
        read(&path.join("serial")).trim() == wanted.serial
            && read(&path.join("state")).trim() == "live"
            && (!wanted.namespace
                || entries(&path).any(|entry| {
                    entry.file_name().to_string_lossy().starts_with("nvme")
                        && entry.path().join("size").exists()
                }))
    })
}

/// Runs one test. `false` means that nothing more can be run in this boot.
fn run_test(
    plan: &Plan,
    test: &Test,
    reporter: &mut Reporter,
    loaded: &mut BTreeSet<String>,
) -> bool {
    reporter.send(Event::Started { test: test.index });
    reporter.log(&marker(&plan.token, Edge::Begin, test.index));
    let taint = tainted();
    let start = Instant::now();
    let outcome = test
        .modules
        .iter()
        .try_for_each(|module| load_module(module, loaded))
        .map_or_else(
            |error| Outcome::NotStarted { error },
            |()| {
                exec::run(test, plan.limit(REAP_LIMIT), &mut |line, err| {
                    reporter.send(Event::Output {
                        test: test.index,
                        line,
                        err,
                    });
                })
            },
        );
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let survives = !matches!(outcome, Outcome::Unkillable { .. });
    reporter.log(&marker(&plan.token, Edge::End, test.index));
    reporter.send(Event::Finished {
        test: test.index,
        outcome,
        duration_ms,
        taint: tainted() & !taint,
    });
    if !survives {
        reporter.send(Event::Fatal {
            message: "a test could not be killed, this guest is of no more use".into(),
        });
    }
    survives
}

fn tainted() -> u64 {
    fs::read_to_string("/proc/sys/kernel/tainted")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn kmemleak(reporter: &mut Reporter) {
    if !Path::new(KMEMLEAK).exists() {
        return;
    }
    reporter.send(Event::Stage {
        name: "scanning for memory leaks".into(),
    });
    let report = leaks(
        || fs::write(KMEMLEAK, "scan"),
        || fs::read(KMEMLEAK),
        || std::thread::sleep(KMEMLEAK_AGE),
    );
    let report: Vec<String> = match report {
        Ok(report) => String::from_utf8_lossy(&report)
            .lines()
            .map(str::to_owned)
            .collect(),
        Err(error) => vec![format!("{KMEMLEAK}: {error}")],
    };
    // In parts: the host takes no message that is much longer than that. An empty report is one,
    // too.
    let (first, rest) = report.split_at(report.len().min(KMEMLEAK_PART));
    for part in std::iter::once(first).chain(rest.chunks(KMEMLEAK_PART)) {
        reporter.send(Event::Kmemleak {
            report: part.to_vec(),
        });
    }
}

/// What kmemleak has to say after as many scans as it takes.
///
/// It switches itself off for good when it runs into trouble, and refuses to scan from then on.
fn leaks(
    mut scan: impl FnMut() -> io::Result<()>,
    mut read: impl FnMut() -> io::Result<Vec<u8>>,
    mut wait: impl FnMut(),
) -> io::Result<Vec<u8>> {
    // The first scan only finds candidates: objects must be old enough, and seen as lost twice.
    scan()?;
    wait();
    scan()?;
    let report = read()?;
    if report.is_empty() {
        return Ok(report);
    }
    // An address that was on its way from one place to another is missed by a scan. The next one
    // finds it, and what can be reached is no longer in the report.
    wait();
    scan()?;
    read()
}

fn shell_on_console(
    rows: u16,
    columns: u16,
    env: &std::collections::BTreeMap<String, String>,
) -> Result<(), String> {
    let busybox = "/bin/busybox";
    let step = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    Command::new(busybox)
        .args(["--install", "-s", "/bin"])
        .status()
        .map_err(|error| step(busybox, &error))?;
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONSOLE)
        .map_err(|error| step(CONSOLE, &error))?;
    if rows > 0 && columns > 0 {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&console, size).map_err(|error| step(CONSOLE, &error))?;
    }
    let clone = || -> Result<Stdio, String> {
        Ok(Stdio::from(
            console.try_clone().map_err(|error| step(CONSOLE, &error))?,
        ))
    };
    // A session of its own with the console as its terminal, so that Ctrl-C and job control work.
    Command::new(busybox)
        .args(["setsid", "-c", "/bin/sh", "-l"])
        .env_clear()
        .envs(env)
        .current_dir("/")
        .stdin(clone()?)
        .stdout(clone()?)
        .stderr(clone()?)
        .status()
        .map_err(|error| step("/bin/sh", &error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// What is reported if each read gives the next of `reports`, and the number of scans.
    fn reported(reports: &[&str]) -> (String, usize) {
        let (scans, waits, reads) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let count = |number: &Cell<usize>| number.replace(number.get() + 1);
        let report = leaks(
            || {
                assert_eq!(count(&scans), waits.get(), "waits before each further scan");
                Ok(())
            },
            || Ok(reports[count(&reads)].into()),
            || {
                count(&waits);
            },
        );
        let report = report.expect("a report");
        (String::from_utf8(report).expect("text"), scans.get())
    }

    #[test]
    fn a_script_that_fails_tells_what_it_said() {
        assert_eq!(run_script("true\n"), Ok(()));
        let error = run_script("echo one; echo two >&2; false; true").expect_err("fails");
        assert_eq!(error, "prepare: exit status: 1: one; two");
        assert!(run_script("echo $unset").is_err());
    }

    #[test]
    fn what_is_found_again_is_no_leak() {
        assert_eq!(reported(&[""]), (String::new(), 2));
        assert_eq!(reported(&["a b", "b"]), ("b".into(), 3));
        assert_eq!(reported(&["a", ""]), (String::new(), 3));
    }

    #[test]
    fn a_detector_that_is_off_is_an_error() {
        let off = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(leaks(off, || Ok(Vec::new()), || ()).is_err());
        assert!(leaks(|| Ok(()), || Err(io::Error::other("")), || ()).is_err());
    }
}
