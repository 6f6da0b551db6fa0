// SPDX-License-Identifier: GPL-2.0

//! A guest: a plain Debian on a disk of its own, and QEMU that runs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use p2pdma_common::{qemu, Arch};

use crate::agent::Agent;
use crate::plan::Plan;

/// How long a boot may take, and powering off.
const BOOT: Duration = Duration::from_secs(900);

/// What a guest is made of.
pub struct Machine {
    /// Its disk, which is copied.
    pub disk: PathBuf,
    /// The kernel that is on it.
    pub image: PathBuf,
    /// The initial RAM disk that is on it.
    pub initrd: PathBuf,
    /// What it is shown as a second disk.
    pub repository: PathBuf,
    /// Where its files are kept while it runs, and its consoles afterwards.
    pub results: PathBuf,
}

/// A guest that runs.
pub struct Guest {
    child: Child,
    /// Runs programs in it.
    pub agent: Agent,
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Fails once the guest has ended.
fn alive(child: &mut Child) -> Result<()> {
    match child.try_wait()? {
        None => Ok(()),
        Some(status) => bail!("the guest has ended by itself, QEMU with {status}"),
    }
}

impl Machine {
    fn path(&self, name: &str) -> PathBuf {
        self.results.join(name)
    }

    /// Makes the disks.
    pub fn prepare(&self, plan: &Plan) -> Result<()> {
        if self.results.exists() {
            fs::remove_dir_all(&self.results)?;
        }
        fs::create_dir_all(&self.results).with_context(|| self.results.display().to_string())?;
        run(Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .arg(&self.disk)
            .arg(self.path("disk")))?;
        let repository = self.path("repository");
        run(Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-L", "repository", "-d"])
            .arg(&self.repository)
            .arg(&repository)
            .arg("1G"))?;
        for (number, mib) in plan.media.iter().enumerate() {
            let path = self.path(&format!("medium{number}"));
            File::create(&path)?.set_len(mib << 20)?;
        }
        Ok(())
    }

    fn command(&self, plan: &Plan, console: &Path) -> Command {
        let drive = |id: &str| qemu::drive(id, &self.path(id));
        let chardev = |kind: &str, path: &Path| format!("{kind},path={}", qemu::path(path));
        let accelerator = qemu::accelerator(Arch::HOST);
        let mut command = Command::new(Arch::HOST.names().qemu);
        command
            .args(qemu::BASE)
            .args(["-accel", accelerator])
            .args(&plan.machine)
            .arg("-kernel")
            .arg(&self.image)
            .arg("-initrd")
            .arg(&self.initrd)
            .args([
                "-append",
                &format!(
                    "root=/dev/vda rw console={} panic=-1 random.trust_cpu=on {}",
                    Arch::HOST.names().console,
                    qemu::kernel_parameters(Arch::HOST, accelerator)
                ),
            ])
            .args(["-chardev", &chardev("file,id=console", console)])
            .args(["-serial", "chardev:console"])
            .args([
                "-chardev",
                &chardev("socket,id=agent,server=on,wait=off", &self.path("agent")),
            ])
            .args(["-device", "virtio-serial"])
            .args([
                "-device",
                "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            ]);
        for id in ["disk", "repository"] {
            command.args(["-drive", &drive(id)]);
            command.args(["-device", &format!("virtio-blk-pci,drive={id}")]);
        }
        for number in 0..plan.media.len() {
            command.args(["-drive", &drive(&format!("medium{number}"))]);
        }
        for device in &plan.devices {
            command.args(["-device", device]);
        }
        command
    }

    /// Boots it; `console` is what it prints.
    pub fn boot(&self, plan: &Plan, console: &Path) -> Result<Guest> {
        let errors = File::create(self.path("qemu.log"))?;
        let mut child = self
            .command(plan, console)
            .stdin(Stdio::null())
            .stdout(errors.try_clone()?)
            .stderr(errors)
            .spawn()
            .context("cannot run QEMU")?;
        match Agent::connect(&self.path("agent"), BOOT, &mut || alive(&mut child)) {
            Ok(agent) => Ok(Guest { child, agent }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = fs::read_to_string(self.path("qemu.log")).unwrap_or_default();
                Err(error.context(format!("see {} {said}", console.display())))
            }
        }
    }

    /// Deletes the disks.
    pub fn clean(&self, plan: &Plan) {
        let media = (0..plan.media.len()).map(|number| format!("medium{number}"));
        for name in ["disk", "repository", "agent"]
            .map(str::to_owned)
            .into_iter()
            .chain(media)
        {
            let _ = fs::remove_file(self.path(&name));
        }
    }
}

impl Guest {
    /// Runs lines of shell.
    pub fn run(&mut self, lines: &str, limit: Duration) -> Result<crate::agent::Outcome> {
        let child = &mut self.child;
        self.agent.run(lines, limit, &mut || alive(child))
    }

    /// Powers it off as a person would, and waits for that.
    pub fn power_off(mut self) -> Result<ExitStatus> {
        self.agent.power_off()?;
        let end = Instant::now() + BOOT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("the guest does not power off");
            }
            sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
