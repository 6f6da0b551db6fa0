// SPDX-License-Identifier: GPL-2.0

//! The machine as sysfs shows it: PCI functions, pools, disks, and how to take a driver away.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde::Serialize;

/// The driver whose devices are unbound and bound again.
pub const DRIVER: &str = "p2pdma_provider";

/// How many seconds memory may take until it is back, on a machine that has nothing else to do.
pub const PATIENCE: u64 = 60;

/// Where sysfs and the devices are.
pub struct System {
    root: PathBuf,
}

/// What a pool has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// PCI address.
    pub device: String,
    /// Driver that is bound.
    pub driver: Option<String>,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that are not allocated.
    pub available: u64,
}

impl Pool {
    /// What must be available when nobody uses it. The nvme driver keeps queues in its own.
    pub fn at_rest(&self, before: &[Pool]) -> u64 {
        match before.iter().find(|pool| pool.device == self.device) {
            Some(pool) if self.driver.as_deref() == Some("nvme") => pool.available,
            _ => self.size,
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;

    Ok(text.trim().to_owned())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}

/// A PCI address as the ABI has it.
pub fn function(name: &str) -> Option<u64> {
    let (rest, function) = name.rsplit_once('.')?;
    let mut parts = rest.split(':').map(|part| u64::from_str_radix(part, 16));
    let (domain, bus, device) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );

    Some((domain << 16) | (bus << 8) | (device << 3) | u64::from_str_radix(function, 16).ok()?)
}

impl System {
    /// The machine whose root directory this is.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        System { root: root.into() }
    }

    fn devices(&self) -> PathBuf {
        self.root.join("sys/bus/pci/devices")
    }

    /// The driver that is bound to a device.
    pub fn driver(&self, device: &str) -> Option<String> {
        let link = fs::read_link(self.devices().join(device).join("driver")).ok()?;

        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// All PCI functions.
    pub fn functions(&self) -> Result<Vec<String>> {
        let devices = self.devices();
        let mut names: Vec<_> = fs::read_dir(&devices)
            .with_context(|| format!("cannot list {}", devices.display()))?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();

        names.sort();
        Ok(names)
    }

    /// All pools.
    pub fn pools(&self) -> Result<Vec<Pool>> {
        let mut pools = Vec::new();

        for device in self.functions()? {
            let dir = self.devices().join(&device).join("p2pmem");

            if dir.exists() {
                pools.push(Pool {
                    size: read(&dir.join("size"))?.parse()?,
                    available: read(&dir.join("available"))?.parse()?,
                    driver: self.driver(&device),
                    device,
                });
            }
        }
        Ok(pools)
    }

    /// The file that is mapped to get memory of a device.
    pub fn allocate(&self, device: &str) -> PathBuf {
        self.devices().join(device).join("p2pmem/allocate")
    }

    /// Namespaces of the controllers with these serial numbers, or with these device nodes, to be
    /// written to. Refuses what is in use, unless it is only to be read.
    pub fn open_disks(&self, scratch: &[String]) -> Result<Vec<File>> {
        let mut disks = Vec::new();
        let blocks = self.root.join("sys/block");

        for name in scratch {
            let before = disks.len();

            if name.starts_with("/dev/") {
                disks.push(open_disk(&self.root.join(&name[1..]))?);
            } else {
                for entry in fs::read_dir(&blocks)
                    .with_context(|| format!("cannot list {}", blocks.display()))?
                    .filter_map(|entry| entry.ok())
                {
                    if read(&entry.path().join("device/serial")).is_ok_and(|found| found == *name) {
                        disks.push(open_disk(&self.root.join("dev").join(entry.file_name()))?);
                    }
                }
            }
            ensure!(
                disks.len() > before,
                "no NVMe namespace has the serial number {name}"
            );
        }
        Ok(disks)
    }

    /// Devices of the driver that is taken away.
    pub fn removable(&self) -> Result<Vec<String>> {
        let mut devices = self.functions()?;

        devices.retain(|device| self.driver(device).as_deref() == Some(DRIVER));
        Ok(devices)
    }

    fn drivers(&self) -> PathBuf {
        self.root.join("sys/bus/pci/drivers")
    }

    /// Unbinds a device from a driver and binds it again.
    pub fn rebind(&self, device: &str, driver: &str) -> Result<()> {
        let driver = self.drivers().join(driver);

        write(&driver.join("unbind"), device)?;
        write(&driver.join("bind"), device)
    }

    /// Unbinds a device from a driver, lends it to another, which need not take it, and binds it
    /// again.
    pub fn lend(&self, device: &str, driver: &str, other: &str) -> Result<()> {
        let drivers = self.drivers();
        let choice = self.devices().join(device).join("driver_override");
        // As it was: there may be one already.
        let before = read(&choice)?;

        write(&drivers.join(driver).join("unbind"), device)?;
        write(&choice, other)?;
        if write(&drivers.join(other).join("bind"), device).is_ok() {
            // It may be asked to publish, and to withdraw.
            let publish = self.devices().join(device).join("p2pdma_random/publish");

            if publish.exists() {
                // Almost a page, and as much as is too much.
                ensure!(
                    fs::read(&publish)?.len() == rustix::param::page_size() - 1,
                    "{device}: another length"
                );
                ensure!(
                    fs::read(publish.with_file_name("too_long")).is_err(),
                    "{device}: too long, and shown"
                );
                for value in ["1", "0"] {
                    write(&publish, value)?;
                }
            }
            write(&drivers.join(other).join("unbind"), device)?;
        }
        let before = if before == "(null)" { "\n" } else { &before };

        write(&choice, before)?;
        write(&drivers.join(driver).join("bind"), device)
    }

    /// Removes a device from the bus, looks for it again, and sees that it has its driver.
    pub fn unplug(&self, device: &str, driver: &str) -> Result<()> {
        let dir = self.devices().join(device);
        let choice = read(&dir.join("driver_override"))?;

        write(&dir.join("remove"), "1")?;
        write(&self.root.join("sys/bus/pci/rescan"), "1")?;
        if choice != "(null)" {
            write(&dir.join("driver_override"), &choice)?;
        }
        if self.driver(device).is_none() {
            write(&self.drivers().join(driver).join("bind"), device)?;
        }
        Ok(())
    }

    /// What the kernel says of itself: a warning, an oops.
    pub fn taint(&self) -> Result<u64> {
        Ok(read(&self.root.join("proc/sys/kernel/tainted"))?.parse()?)
    }

    /// Waits until all pools are as they were; says which is not, if that does not happen in time.
    pub fn wait_at_rest(&self, before: &[Pool], patience: Duration) -> Result<Vec<Pool>> {
        let start = Instant::now();

        loop {
            let pools = self.pools()?;
            let busy = pools
                .iter()
                .find(|pool| pool.available != pool.at_rest(before));
            let gone = before
                .iter()
                .find(|was| !pools.iter().any(|pool| pool.device == was.device));

            match (busy, gone) {
                (None, None) => return Ok(pools),
                _ if start.elapsed() < patience => thread::sleep(Duration::from_millis(100)),
                (Some(pool), _) => bail!(
                    "{}: {} of {} bytes are available, not {}: memory was not given back",
                    pool.device,
                    pool.available,
                    pool.size,
                    pool.at_rest(before)
                ),
                (_, Some(pool)) => bail!("{}: its pool has gone", pool.device),
            }
        }
    }
}

/// Nobody else may have it.
fn open_disk(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::EXCL.bits() as i32)
        .open(path)
        .with_context(|| format!("cannot open {} for us alone", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_as_numbers() {
        assert_eq!(function("0000:05:00.0"), Some(0x500));
        assert_eq!(function("0001:02:1f.7"), Some(0x1_02ff));
        assert_eq!(function("nonsense"), None);
        assert_eq!(function("0000:05:00"), None);
    }

    #[test]
    fn rest_is_full_but_for_nvme() {
        let pool = |driver: &str, available| Pool {
            device: "0000:03:00.0".into(),
            driver: Some(driver.into()),
            size: 4096,
            available,
        };

        assert_eq!(pool("nvme", 0).at_rest(&[pool("nvme", 1024)]), 1024);
        assert_eq!(pool(DRIVER, 0).at_rest(&[pool(DRIVER, 1024)]), 4096);
    }

    #[test]
    fn memory_that_does_not_come_back_is_named() {
        let root = std::env::temp_dir().join(format!("p2pdma-fuzz-{}", std::process::id()));
        let pool = root.join("sys/bus/pci/devices/0000:03:00.0/p2pmem");
        let system = System::at(&root);

        fs::create_dir_all(&pool).expect("made");
        write(&pool.join("size"), "4096\n").expect("written");
        write(&pool.join("available"), "4096\n").expect("written");
        let before = system.pools().expect("a pool");
        let rest = |patience| system.wait_at_rest(&before, patience);
        assert_eq!(rest(Duration::ZERO).expect("at rest"), before);

        write(&pool.join("available"), "1024\n").expect("written");
        let lost = rest(Duration::ZERO).expect_err("lost").to_string();
        assert!(lost.contains("1024 of 4096 bytes"), "{lost}");
        fs::remove_dir_all(&pool).expect("removed");
        let gone = rest(Duration::ZERO).expect_err("gone").to_string();
        assert!(gone.contains("its pool has gone"), "{gone}");
        fs::remove_dir_all(&root).expect("removed");
    }
}
