// SPDX-License-Identifier: GPL-2.0

//! `p2pdma bind | unbind | publish | unpublish`: makes a provider of a device, and gives it back.
//!
//! A device is bound by `driver_override`, after its driver has been taken away from it. What it
//! was bound to before is kept in a file below `/run/p2pdma`, so that it can go back.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::bdf::Bdf;
use crate::kmsg::{self, Log};
use crate::machine::{Machine, Source};
use crate::show;
use crate::size::Size;
use crate::text::hanging;
use crate::users::Files;

/// The driver that provides.
const DRIVER: &str = "p2pdma_provider";
/// Version of what `--json` prints.
const SCHEMA: u32 = 1;

/// Something that could be done, but was refused, by this program or by the kernel.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(text: String) -> anyhow::Error {
    Refused(text).into()
}

/// What is asked of the driver: parameters of its module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Number of the BAR.
    pub bar: Option<u8>,
    /// First byte, from the start of the BAR or memory buffer.
    pub offset: Option<u64>,
    /// Number of bytes.
    pub size: Option<u64>,
    /// Number of ranges.
    pub split: Option<u32>,
    /// Whether to publish it.
    pub publish: Option<bool>,
}

impl Parameters {
    /// As the kernel takes them.
    fn words(&self) -> Vec<String> {
        let word = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
        [
            word("bar", self.bar.map(u64::from)),
            word("offset", self.offset),
            word("size", self.size),
            word("split", self.split.map(u64::from)),
            word("publish", self.publish.map(u64::from)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// What to do, and how.
#[derive(Debug, Default)]
pub struct Options {
    /// What is asked of the driver.
    pub parameters: Parameters,
    /// Take devices away from whoever uses them.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What only the kernel can do.
pub trait Kernel {
    /// Writes into a file of sysfs, by its path from the root.
    fn write(&mut self, path: &str, value: &str) -> io::Result<()>;
    /// Loads the driver's module with these parameters.
    fn load(&mut self, parameters: &[String]) -> Result<()>;
    /// Unloads it.
    fn unload(&mut self) -> Result<()>;
    /// What the kernel has logged until now.
    fn log(&self) -> Log;
}

/// The kernel of this machine.
pub struct ThisKernel {
    /// File of the driver's module; the installed one if there is none.
    pub module: Option<PathBuf>,
}

fn modprobe(args: &[&str]) -> Result<()> {
    let output = std::process::Command::new("modprobe").args(args).output();
    let output =
        output.context("cannot run modprobe; --module FILE takes the module from a file")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "modprobe {} failed: {}",
        args.join(" "),
        said.trim()
    );
    Ok(())
}

impl Kernel for ThisKernel {
    fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .open(Path::new("/").join(path))?;
        file.write_all(value.as_bytes())
    }

    fn load(&mut self, parameters: &[String]) -> Result<()> {
        let Some(path) = &self.module else {
            let mut args = vec![DRIVER];
            args.extend(parameters.iter().map(String::as_str));
            return modprobe(&args);
        };
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let parameters = std::ffi::CString::new(parameters.join(" "))?;
        rustix::system::finit_module(&file, &parameters, 0)
            .with_context(|| format!("cannot load {}", path.display()))
    }

    fn unload(&mut self) -> Result<()> {
        // O_NONBLOCK, as rmmod: do not wait for users
        rustix::system::delete_module(c"p2pdma_provider", 0x800)
            .context("cannot unload p2pdma_provider")
    }

    fn log(&self) -> Log {
        Log::read()
    }
}

/// What a device was before it was bound.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Former {
    driver: Option<String>,
    driver_override: Option<String>,
}

/// What has become of a device.
#[derive(Debug, Serialize)]
pub struct Done {
    bdf: Bdf,
    /// `bound`, `unbound`, `published`, `unpublished`, or `unchanged`.
    action: &'static str,
    /// What it was bound to before.
    former_driver: Option<String>,
    /// What it is bound to now.
    driver: Option<String>,
    source: Option<Source>,
    size: Option<u64>,
    published: Option<bool>,
    /// What was, or would be, written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    dry_run: bool,
    devices: Vec<Done>,
}

/// A machine whose files are below a directory, and whose kernel does what it is told.
pub struct Binder<'a, K> {
    root: &'a Path,
    kernel: K,
    options: &'a Options,
    steps: Vec<String>,
}

impl<'a, K: Kernel> Binder<'a, K> {
    /// One that acts on a machine.
    pub fn new(root: &'a Path, kernel: K, options: &'a Options) -> Self {
        Binder {
            root,
            kernel,
            options,
            steps: Vec::new(),
        }
    }

    fn device(bdf: Bdf) -> String {
        format!("sys/bus/pci/devices/{bdf}")
    }

    fn driver(&self, bdf: Bdf) -> Option<String> {
        let link = self.root.join(Self::device(bdf)).join("driver");
        let target = fs::read_link(link).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    fn override_of(&self, bdf: Bdf) -> Option<String> {
        let text = self.text(&format!("{}/driver_override", Self::device(bdf)))?;
        Some(text).filter(|text| !text.is_empty() && text != "(null)")
    }

    fn state_path(&self, bdf: Bdf) -> PathBuf {
        self.root.join("run/p2pdma").join(bdf.to_string())
    }

    fn former(&self, bdf: Bdf) -> Option<Former> {
        serde_json::from_slice(&fs::read(self.state_path(bdf)).ok()?).ok()
    }

    /// Writes into sysfs, or says that it would.
    fn write(&mut self, path: &str, value: &str) -> Result<()> {
        let shown = if value.trim().is_empty() { "''" } else { value };
        self.steps.push(format!("echo {shown} >/{path}"));
        if self.options.dry_run {
            return Ok(());
        }
        self.kernel.write(path, value).map_err(|error| {
            let hint = match Errno::from_io_error(&error) {
                Some(Errno::ACCESS | Errno::PERM) => ": this takes root",
                Some(Errno::ROFS) => ": /sys is read-only, as in a container; do it on the host",
                _ => "",
            };
            anyhow::Error::new(error).context(format!("cannot write {shown} to /{path}{hint}"))
        })
    }

    fn set_override(&mut self, bdf: Bdf, driver: Option<&str>) -> Result<()> {
        let path = format!("{}/driver_override", Self::device(bdf));
        self.write(&path, driver.unwrap_or("\n"))
    }

    /// All that uses a device, as an error, unless forced.
    fn refuse_if_used(&self, machine: &Machine, bdf: Bdf) -> Result<()> {
        if self.options.force {
            return Ok(());
        }
        let files = Files::below(self.root);
        let mut uses: Vec<_> = files.uses(bdf).iter().map(ToString::to_string).collect();
        let pool = machine.providers.iter().find(|pool| pool.bdf == bdf);
        if let Some(pool) = pool {
            let users = files.pool_users(pool);
            // the nvme driver has its own queues in its memory buffer, and takes them out
            let own = pool.driver.as_deref() != Some(DRIVER);
            let kernel = if own { 0 } else { users.kernel };
            uses.extend(crate::users::PoolUsers { kernel, ..users }.lines());
        }
        if uses.is_empty() {
            return Ok(());
        }
        Err(refused(format!(
            "{bdf} is in use, and was left alone\n  {}\n  end that first; --force takes it away \
             all the same, and data can be lost",
            uses.join("\n  ")
        )))
    }

    /// Whether a provider is what was asked for.
    fn is_as_asked(&self, bdf: Bdf) -> bool {
        let own = format!("{}/p2pdma_provider", Self::device(bdf));
        let number = |name: &str| self.text(&format!("{own}/{name}"))?.parse::<u64>().ok();
        let parameters = &self.options.parameters;
        let same = |asked: Option<u64>, name| asked.is_none() || asked == number(name);
        same(parameters.bar.map(u64::from), "bar")
            && same(parameters.offset, "offset")
            && same(parameters.size, "size")
            && same(parameters.split.map(u64::from), "ranges")
            && same(parameters.publish.map(u64::from), "publish")
    }

    fn is_loaded(&self) -> bool {
        self.root.join("sys/bus/pci/drivers").join(DRIVER).is_dir()
    }

    /// Devices that the driver has.
    fn bound(&self) -> Vec<Bdf> {
        let dir = self.root.join("sys/bus/pci/drivers").join(DRIVER);
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// The parameters that the module was loaded with, if this program did it.
    fn loaded_with(&self) -> String {
        self.text("run/p2pdma/parameters").unwrap_or_default()
    }

    /// Has the driver's module there, with the parameters that were asked for.
    fn load(&mut self) -> Result<()> {
        let parameters = self.options.parameters.words();
        let asked = parameters.join(" ");
        if self.is_loaded() {
            let has = self.loaded_with();
            if asked == has {
                return Ok(());
            }
            let bound = self.bound();
            if !bound.is_empty() {
                let bound: Vec<_> = bound.iter().map(Bdf::to_string).collect();
                let words = |text: &str| match text {
                    "" => "no parameters".to_owned(),
                    text => text.to_owned(),
                };
                return Err(refused(format!(
                    "the module {DRIVER} takes parameters only when it is loaded: it was with {}, \
                     not {}, and is in use for {}\n  unbind these first, and bind all that need \
                     the same",
                    words(&has),
                    words(&asked),
                    crate::text::list(&bound)
                )));
            }
            self.steps.push(format!("rmmod {DRIVER}"));
            if !self.options.dry_run {
                self.kernel.unload()?;
            }
        }
        let mut words = vec!["modprobe".to_owned(), DRIVER.to_owned()];
        words.extend(parameters.iter().cloned());
        self.steps.push(words.join(" "));
        if self.options.dry_run {
            return Ok(());
        }
        self.keep("parameters", asked.as_bytes())?;
        self.kernel.load(&parameters)
    }

    /// Writes a file below `/run/p2pdma`.
    fn keep(&self, name: &str, content: &[u8]) -> Result<()> {
        let dir = self.root.join("run/p2pdma");
        let path = dir.join(name);
        let write = || fs::create_dir_all(&dir).and_then(|()| fs::write(&path, content));
        write().with_context(|| {
            format!(
                "cannot keep what was done in {}: this takes root",
                path.display()
            )
        })
    }

    /// What the driver has said of a device since the log ended there.
    fn reason(&self, bdf: Bdf, before: u64) -> Option<String> {
        let log = self.kernel.log();
        let mut said = log
            .since(before)
            .iter()
            .rev()
            .filter(|line| line.contains(DRIVER));
        said.find_map(|line| {
            let (device, text) = kmsg::message(line)?;
            (device == bdf).then(|| text.to_owned())
        })
    }

    fn remember(&self, bdf: Bdf, former: &Former) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        self.keep(&bdf.to_string(), &serde_json::to_vec(former)?)
    }

    /// Gives a device what it had before; what fails is left out, there is an error already.
    fn give_back(&mut self, bdf: Bdf, former: &Former) {
        let _ = self.set_override(bdf, former.driver_override.as_deref());
        if let Some(driver) = &former.driver {
            let _ = self.write(
                &format!("sys/bus/pci/drivers/{driver}/bind"),
                &bdf.to_string(),
            );
        }
        let _ = fs::remove_file(self.state_path(bdf));
    }

    fn done(&mut self, bdf: Bdf, action: &'static str, former: Option<String>) -> Done {
        let own = format!("{}/p2pdma_provider", Self::device(bdf));
        let number = |path: String| self.text(&path)?.parse::<u64>().ok();
        let source = self.text(&format!("{own}/source")).map(|kind| Source {
            kind,
            bar: number(format!("{own}/bar")).and_then(|bar| u8::try_from(bar).ok()),
            offset: number(format!("{own}/offset")),
        });
        let pool = format!("{}/p2pmem", Self::device(bdf));
        Done {
            bdf,
            action,
            former_driver: former,
            driver: self.driver(bdf),
            source,
            size: number(format!("{pool}/size")),
            published: self
                .text(&format!("{pool}/published"))
                .map(|text| text == "1"),
            steps: std::mem::take(&mut self.steps),
        }
    }

    /// Makes a provider of one device, whose driver was taken away and module is loaded.
    fn attach(&mut self, bdf: Bdf, former: &Former, before: u64) -> Result<()> {
        // the module's loading may have bound it
        let result = match self.driver(bdf).as_deref() {
            Some(DRIVER) if !self.options.dry_run => Ok(()),
            _ => self.write(
                &format!("sys/bus/pci/drivers/{DRIVER}/bind"),
                &bdf.to_string(),
            ),
        };
        let Err(error) = result else {
            return Ok(());
        };
        self.give_back(bdf, former);
        let why = self
            .reason(bdf, before)
            .unwrap_or_else(|| format!("{error:#}"));
        let back = match (&former.driver, self.driver(bdf)) {
            (Some(driver), Some(now)) if *driver == now => format!("{driver} has it again"),
            (None, None) => "it has no driver, as before".to_owned(),
            (Some(driver), _) => {
                format!("{driver} did not take it back: it has no driver, see the kernel's log")
            }
            (None, Some(now)) => format!("{now} has it now"),
        };
        Err(refused(format!(
            "{bdf} was refused by {DRIVER}: {why}\n  {back}; Documentation/p2pdma/provider.rst \
             lists what is refused"
        )))
    }

    /// Makes providers of devices.
    pub fn bind(&mut self, machine: &Machine, devices: &[Bdf]) -> Result<Report> {
        let mut todo = Vec::new();
        let mut done = Vec::new();
        for &bdf in devices {
            ensure!(
                !machine.devices.get(&bdf).is_some_and(|one| one.is_bridge()),
                "{bdf} is a bridge, which has no memory to provide"
            );
            if self.driver(bdf).as_deref() == Some(DRIVER) {
                if !self.is_as_asked(bdf) {
                    return Err(refused(format!(
                        "{bdf} is bound to {DRIVER} already, with other memory than asked for\n  \
                         p2pdma unbind {bdf}, and bind it then"
                    )));
                }
                done.push(self.done(bdf, "unchanged", Some(DRIVER.to_owned())));
                continue;
            }
            self.refuse_if_used(machine, bdf)?;
            if !todo.contains(&bdf) {
                todo.push(bdf);
            }
        }
        if todo.is_empty() {
            return Ok(self.report(done));
        }
        let before = self.kernel.log().end();
        // without devices bound to it: loading decides what is refused before any is taken away
        self.load()?;
        for bdf in todo {
            let former = Former {
                driver: self.driver(bdf).filter(|driver| driver != DRIVER),
                driver_override: self.override_of(bdf),
            };
            self.remember(bdf, &former)?;
            let override_ = self.set_override(bdf, Some(DRIVER));
            override_.inspect_err(|_| drop(fs::remove_file(self.state_path(bdf))))?;
            if let Some(driver) = &former.driver {
                let path = format!("sys/bus/pci/drivers/{driver}/unbind");
                if let Err(error) = self.write(&path, &bdf.to_string()) {
                    self.give_back(bdf, &former);
                    return Err(error);
                }
            }
            self.attach(bdf, &former, before)?;
            let row = self.done(bdf, "bound", former.driver);
            done.push(row);
        }
        Ok(self.report(done))
    }

    /// Gives devices back to the drivers that they had.
    pub fn unbind(&mut self, machine: &Machine, devices: &[Bdf]) -> Result<Report> {
        for &bdf in devices {
            match self.driver(bdf).as_deref() {
                Some(DRIVER) => self.refuse_if_used(machine, bdf)?,
                Some(other) => bail!("{bdf} is bound to {other}, not to {DRIVER}: nothing to undo"),
                None => bail!("{bdf} has no driver: nothing to undo"),
            }
        }
        let mut done = Vec::new();
        for &bdf in devices {
            let former = self.former(bdf);
            let by_override = self.override_of(bdf).as_deref() == Some(DRIVER);
            self.write(
                &format!("sys/bus/pci/drivers/{DRIVER}/unbind"),
                &bdf.to_string(),
            )?;
            match &former {
                Some(former) => {
                    self.set_override(bdf, former.driver_override.as_deref())?;
                    if let Some(driver) = &former.driver {
                        let path = format!("sys/bus/pci/drivers/{driver}/bind");
                        self.write(&path, &bdf.to_string())?;
                    }
                }
                // bound by other means: the kernel finds the driver by the device's ids
                None if by_override => {
                    self.set_override(bdf, None)?;
                    self.write("sys/bus/pci/drivers_probe", &bdf.to_string())?;
                }
                None => (),
            }
            if !self.options.dry_run {
                let _ = fs::remove_file(self.state_path(bdf));
            }
            let row = self.done(bdf, "unbound", Some(DRIVER.to_owned()));
            done.push(row);
        }
        Ok(self.report(done))
    }

    /// Lets other drivers find the memory of providers, or no longer.
    pub fn publish(&mut self, devices: &[Bdf], publish: bool) -> Result<Report> {
        for &bdf in devices {
            let driver = self.driver(bdf);
            ensure!(
                driver.as_deref() == Some(DRIVER),
                "{bdf} is bound to {}, which offers no way to change that; {DRIVER} does",
                driver.as_deref().unwrap_or("no driver")
            );
        }
        let mut done = Vec::new();
        for &bdf in devices {
            let path = format!("{}/p2pdma_provider/publish", Self::device(bdf));
            self.write(&path, if publish { "1" } else { "0" })?;
            let action = if publish { "published" } else { "unpublished" };
            let row = self.done(bdf, action, Some(DRIVER.to_owned()));
            ensure!(
                self.options.dry_run || row.published == Some(publish),
                "{bdf}: the kernel took that, and p2pmem/published is not {}",
                u8::from(publish)
            );
            done.push(row);
        }
        Ok(self.report(done))
    }

    fn report(&self, devices: Vec<Done>) -> Report {
        Report {
            schema: SCHEMA,
            dry_run: self.options.dry_run,
            devices,
        }
    }
}

/// Prints what was done, or would be.
pub fn text(report: &Report, mut out: impl Write) -> io::Result<()> {
    for done in &report.devices {
        if report.dry_run {
            for step in &done.steps {
                writeln!(out, "{step}")?;
            }
            continue;
        }
        let driver = done.driver.as_deref().unwrap_or("no driver");
        let now = match (done.action, done.size) {
            ("unbound", _) => format!("given back, has {driver} now"),
            (action, Some(size)) => {
                let place = done.source.as_ref().map_or(String::new(), |source| {
                    format!(" of {}", show::place(source))
                });
                let published = match done.published {
                    Some(true) => "published",
                    _ => "not published",
                };
                let action = if action == "unchanged" {
                    "bound already".to_owned()
                } else {
                    action.to_owned()
                };
                format!("{action}: {}{place}, {published}", Size(size))
            }
            (action, None) => format!("{action}, has {driver} now"),
        };
        writeln!(out, "{}", hanging(&format!("{}: ", done.bdf), &now))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::machine::fake::{self, Fake};

    /// Does to a copied tree what the kernel would do.
    struct FakeKernel<'a> {
        root: &'a Path,
        loaded: &'a std::cell::RefCell<Vec<String>>,
        refuses: bool,
    }

    impl FakeKernel<'_> {
        fn link(&self, bdf: &str) -> PathBuf {
            let device = self.root.join("sys/bus/pci/devices").join(bdf);
            device.join("driver")
        }
    }

    impl Kernel for FakeKernel<'_> {
        fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
            let parts: Vec<_> = path.split('/').collect();
            match parts[..] {
                ["sys", "bus", "pci", "drivers", driver, "unbind"] => {
                    fs::remove_file(self.link(value))?;
                    let _ = fs::remove_file(
                        self.root
                            .join("sys/bus/pci/drivers")
                            .join(driver)
                            .join(value),
                    );
                    Ok(())
                }
                ["sys", "bus", "pci", "drivers", driver, "bind"] => {
                    if driver == DRIVER && self.refuses {
                        return Err(Errno::INVAL.into());
                    }
                    let dir = self.root.join("sys/bus/pci/drivers").join(driver);
                    fs::create_dir_all(&dir)?;
                    fs::write(dir.join(value), "")?;
                    symlink(dir, self.link(value))
                }
                ["sys", "bus", "pci", "drivers_probe"] => {
                    let dir = self.root.join("sys/bus/pci/drivers/nvme");
                    symlink(dir, self.link(value))
                }
                _ => {
                    let path = self.root.join(path);
                    fs::write(&path, format!("{}\n", value.trim()))?;
                    if path.ends_with("p2pdma_provider/publish") {
                        let device = path.ancestors().nth(2).expect("a device");
                        fs::write(device.join("p2pmem/published"), format!("{value}\n"))?;
                    }
                    Ok(())
                }
            }
        }

        fn load(&mut self, parameters: &[String]) -> Result<()> {
            fs::create_dir_all(self.root.join("sys/bus/pci/drivers").join(DRIVER))?;
            self.loaded.borrow_mut().push(parameters.join(" "));
            Ok(())
        }

        fn unload(&mut self) -> Result<()> {
            self.loaded.borrow_mut().push("-".to_owned());
            Ok(fs::remove_dir_all(
                self.root.join("sys/bus/pci/drivers").join(DRIVER),
            )?)
        }

        fn log(&self) -> Log {
            Log::default()
        }
    }

    const NVME: &str = "0000:04:00.0";
    const TESTDEV: &str = "0000:05:00.0";

    fn bdf(text: &str) -> Bdf {
        text.parse().expect("an address")
    }

    struct World {
        fake: Fake,
        loaded: std::cell::RefCell<Vec<String>>,
        refuses: bool,
        options: Options,
    }

    impl World {
        fn new() -> Self {
            World {
                fake: fake::switch(),
                loaded: std::cell::RefCell::default(),
                refuses: false,
                options: Options::default(),
            }
        }

        fn act(
            &self,
            what: impl FnOnce(&mut Binder<'_, FakeKernel<'_>>, &Machine) -> Result<Report>,
        ) -> Result<Report> {
            let root = self.fake.root.path();
            let kernel = FakeKernel {
                root,
                loaded: &self.loaded,
                refuses: self.refuses,
            };
            what(
                &mut Binder::new(root, kernel, &self.options),
                &self.fake.read(),
            )
        }

        fn bind(&self, device: &str) -> Result<Report> {
            self.act(|binder, machine| binder.bind(machine, &[bdf(device)]))
        }

        fn unbind(&self, device: &str) -> Result<Report> {
            self.act(|binder, machine| binder.unbind(machine, &[bdf(device)]))
        }

        fn state(&self, device: &str) -> (Option<String>, Option<String>) {
            let kernel = FakeKernel {
                root: self.fake.root.path(),
                loaded: &self.loaded,
                refuses: false,
            };
            let binder = Binder::new(self.fake.root.path(), kernel, &self.options);
            (binder.driver(bdf(device)), binder.override_of(bdf(device)))
        }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn message(result: Result<Report>) -> String {
        let error = result.expect_err("an error");
        assert!(error.is::<Refused>(), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn binds_and_gives_back() {
        let world = World::new();
        let override_ = format!("sys/bus/pci/devices/{NVME}/driver_override");
        world.fake.write(&override_, "vfio-pci\n");
        let report = world.bind(NVME).expect("it binds");
        assert_eq!(report.devices[0].former_driver, some("nvme"));
        assert_eq!(world.state(NVME), (some(DRIVER), some(DRIVER)));
        assert_eq!(world.loaded.borrow()[..], [""]);

        world.unbind(NVME).expect("it goes back");
        assert_eq!(world.state(NVME), (some("nvme"), some("vfio-pci")));
        let kept = world.fake.root.path().join("run/p2pdma").join(NVME);
        assert!(!kept.exists());
    }

    #[test]
    fn what_is_bound_already_is_left_alone() {
        let mut world = World::new();
        let report = world.bind(TESTDEV).expect("nothing is to be done");
        assert_eq!(report.devices[0].action, "unchanged");
        assert_eq!(report.devices[0].size, Some(64 << 20));
        assert!(world.loaded.borrow().is_empty());
        world.options.parameters.bar = Some(0);
        assert!(message(world.bind(TESTDEV)).contains("with other memory"));
    }

    #[test]
    fn a_device_without_kept_state_goes_to_whom_the_kernel_finds() {
        let world = World::new();
        world.bind(NVME).expect("it binds");
        fs::remove_dir_all(world.fake.root.path().join("run")).expect("it was there");
        world.unbind(NVME).expect("it goes back");
        assert_eq!(world.state(NVME), (some("nvme"), None));
        // bound by its ids: nobody else has it
        world.unbind(TESTDEV).expect("it is unbound");
        assert_eq!(world.state(TESTDEV).0, None);
    }

    #[test]
    fn what_the_driver_refuses_goes_back() {
        let mut world = World::new();
        world.refuses = true;
        let said = message(world.bind(NVME));
        assert!(said.contains("nvme has it again"), "{said}");
        assert_eq!(world.state(NVME), (some("nvme"), None));
    }

    #[test]
    fn parameters_need_a_module_of_their_own() {
        let mut world = World::new();
        world.options.parameters = Parameters {
            bar: Some(2),
            offset: Some(2 << 20),
            publish: Some(false),
            ..Parameters::default()
        };
        world
            .fake
            .write(&format!("sys/bus/pci/drivers/{DRIVER}/{TESTDEV}"), "");
        let said = message(world.bind(NVME));
        assert!(said.contains("in use for 0000:05:00.0"), "{said}");
        assert_eq!(world.state(NVME), (some("nvme"), None));

        world.unbind(TESTDEV).expect("it is unbound");
        world.bind(NVME).expect("it binds");
        let loaded = ["-", "bar=2 offset=2097152 publish=0"];
        assert_eq!(world.loaded.borrow()[..], loaded);

        // the same again needs nothing, others wait until nobody has these
        world.bind(TESTDEV).expect("it binds");
        world.unbind(TESTDEV).expect("it is unbound");
        world.options.parameters = Parameters::default();
        let said = message(world.bind(TESTDEV));
        assert!(said.contains("not no parameters"), "{said}");
        world.unbind(NVME).expect("it is unbound");
        world.bind(TESTDEV).expect("it binds");
        assert_eq!(world.loaded.borrow()[2..], ["-", ""]);
    }

    #[test]
    fn what_is_in_use_is_left_alone_unless_forced() {
        let mut world = World::new();
        world.fake.block(
            "nvme1n1",
            &format!(
                "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/{NVME}/nvme/nvme1/\
                 nvme1n1"
            ),
        );
        world.fake.write(
            "proc/self/mountinfo",
            "36 35 259:1 / /mnt rw - ext4 /dev/nvme1n1 rw\n",
        );
        let said = message(world.bind(NVME));
        assert!(said.contains("nvme1n1 is mounted on /mnt"), "{said}");
        assert_eq!(world.state(NVME), (some("nvme"), None));
        world.options.force = true;
        world.bind(NVME).expect("it binds");
        assert_eq!(world.state(NVME).0, some(DRIVER));

        world.options.force = false;
        let device = format!("sys/bus/pci/devices/{TESTDEV}");
        world.fake.pool(&device, (64 << 20) - 4096);
        let said = message(world.unbind(TESTDEV));
        assert!(said.contains("drivers hold 4 KiB"), "{said}");
    }

    #[test]
    fn publishes() {
        let world = World::new();
        for publish in [false, true] {
            let report = world.act(|binder, _| binder.publish(&[bdf(TESTDEV)], publish));
            let report = report.expect("it is published");
            assert_eq!(report.devices[0].published, Some(publish));
        }
        let other = world.act(|binder, _| binder.publish(&[bdf(NVME)], true));
        assert!(other.expect_err("an error").to_string().contains("nvme"));
    }

    #[test]
    fn only_says_what_it_would_do() {
        let mut world = World::new();
        world.options.dry_run = true;
        let report = world.bind(NVME).expect("a plan");
        let mut out = Vec::new();
        text(&report, &mut out).expect("output");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            format!(
                "modprobe p2pdma_provider\n\
                 echo p2pdma_provider >/sys/bus/pci/devices/{NVME}/driver_override\n\
                 echo {NVME} >/sys/bus/pci/drivers/nvme/unbind\n\
                 echo {NVME} >/sys/bus/pci/drivers/p2pdma_provider/bind\n"
            )
        );
        assert_eq!(world.state(NVME), (some("nvme"), None));
        assert!(!world.fake.root.path().join("run").exists());
    }

    #[test]
    fn says_what_there_is_nothing_to_undo_of() {
        let world = World::new();
        let error = world.unbind(NVME).expect_err("an error").to_string();
        assert!(error.contains("is bound to nvme"), "{error}");
        let error = world.bind("02:00.0").expect_err("an error").to_string();
        assert!(error.contains("is a bridge"), "{error}");
    }
}
