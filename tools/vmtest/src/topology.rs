// SPDX-License-Identifier: GPL-2.0

//! Topologies: one TOML file each, saying which devices sit where and what P2PDMA makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Context, Result};
use glob::Pattern;
use p2pdma_common::qemu::escape;
use p2pdma_common::Arch;
use serde::{Deserialize, Serialize};

/// One machine to boot.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Name; the file is called so, too.
    pub name: String,
    /// One line for `vmtest list`.
    pub description: String,
    /// Where it is to be had; x86-64, where nothing is said.
    #[serde(default = "default_architectures")]
    pub architectures: Vec<Arch>,
    /// What is different on arm64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm64: Option<Variant>,
    /// QEMU's `-machine`.
    #[serde(default = "default_machine")]
    pub machine: String,
    /// QEMU's `-cpu`. P2PDMA trusts some host bridges by the vendor of the CPU.
    #[serde(default = "default_cpu")]
    pub cpu: String,
    /// QEMU's `-m`.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// QEMU's `-smp`.
    #[serde(default = "default_smp")]
    pub smp: String,
    /// QEMU's `-icount`: the guest's clock counts instructions. Needs `smp = "1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icount: Option<String>,
    /// Not part of a run of all topologies: it has to be asked for by name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_request: bool,
    /// The kernel unpacks itself, and chooses its place in memory: KASLR.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kaslr: bool,
    /// Added to the kernel command line.
    #[serde(default)]
    pub cmdline: String,
    /// Modules it needs beyond those of the test suite, loaded first.
    #[serde(default)]
    pub modules: Vec<String>,
    /// NVMe serials whose medium tests may overwrite.
    #[serde(default)]
    pub scratch: Vec<String>,
    /// QEMU's `-object`, for memory that devices refer to.
    #[serde(default)]
    pub objects: Vec<String>,
    /// QEMU's `-numa`.
    #[serde(default)]
    pub numa: Vec<String>,
    /// QEMU's `-global`, for properties of devices that the machine itself has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globals: Vec<String>,
    /// The tests that it is there for, as globs; without any, all those that do not say otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
    /// Drivers for devices that do not find theirs by their ids: `driver_override` by vendor and
    /// device, as `"1af4:1110"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_override: BTreeMap<String, String>,
    /// What `/bin/sh` does in the guest when the devices are there, before the first test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<String>,
    /// Programs and files of the root that `prepare` needs in the guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// QEMU's `-device`, from the root down.
    pub devices: Vec<Device>,
    /// What P2PDMA is expected to find, the most specific first.
    #[serde(default)]
    pub expect: Vec<Expect>,
    /// What `p2pdma check` prints for the next boot, and the boots with it.
    #[serde(default, rename = "remedy", skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
    /// Why there is no boot with a remedy where ACS has pairs refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_remedy: Option<String>,
}

/// A boot of the same machine with what makes its pairs reach each other by bus address: a topology
/// of its own, called as the first with this name after it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Remedy {
    /// The last part of its name.
    pub name: String,
    /// One line for `vmtest list`.
    pub description: String,
    /// Added to the kernel command line. The first boot compares it with what is printed there.
    pub parameter: String,
    /// Where there is something to mend, if not on all of the topology's architectures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Arch>,
    /// The tests that it is there for, as globs.
    #[serde(default = "tests_of_remedies")]
    pub tests: Vec<String>,
}

impl Remedy {
    fn is_for(&self, arch: Arch) -> bool {
        self.architectures.is_empty() || self.architectures.contains(&arch)
    }
}

/// What shows that pairs work: transfers, what the kernel says, and what is predicted.
fn tests_of_remedies() -> Vec<String> {
    ["p2pdma_odirect", "p2pdma_map", "p2pdma_predict"]
        .map(String::from)
        .into()
}

/// What a topology is on another architecture, where that differs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// One line for `vmtest list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// QEMU's `-machine`.
    #[serde(default = "default_machine_arm64")]
    pub machine: String,
    /// QEMU's `-cpu`.
    #[serde(default = "default_cpu")]
    pub cpu: String,
    /// QEMU's `-m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Added to the kernel command line.
    #[serde(default)]
    pub cmdline: String,
    /// QEMU's `-global`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globals: Vec<String>,
    /// What P2PDMA is expected to find, if that is another thing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expect>,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            description: None,
            machine: default_machine_arm64(),
            cpu: default_cpu(),
            memory: None,
            cmdline: String::new(),
            globals: Vec::new(),
            expect: Vec::new(),
        }
    }
}

fn default_architectures() -> Vec<Arch> {
    vec![Arch::X86_64]
}

fn default_machine_arm64() -> String {
    "virt,gic-version=max".into()
}

fn default_machine() -> String {
    "q35".into()
}

fn default_cpu() -> String {
    "max".into()
}

fn default_memory() -> String {
    "1G".into()
}

/// An emulated processor that waits for another one, which gets no time meanwhile, uses up what
/// time there is. So a guest has more than one only where that makes a difference.
fn default_smp() -> String {
    "1".into()
}

/// One PCI device.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Device {
    /// QEMU's name of the device.
    pub driver: String,
    /// The only architecture whose machines have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Arch>,
    /// What other devices call it in their `bus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Size of a blank medium that is made for it, as `64M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drive: Option<String>,
    /// Any property that the device has; QEMU refuses those that it has not.
    #[serde(flatten)]
    pub properties: BTreeMap<String, toml::Value>,
}

impl Device {
    /// A property as text.
    pub fn text(&self, property: &str) -> Option<&str> {
        self.properties.get(property)?.as_str()
    }

    /// Its argument for `-device`, without the drive.
    pub fn argument(&self) -> String {
        let mut argument = escape(&self.driver);
        if let Some(id) = &self.id {
            argument += &format!(",id={}", escape(id));
        }
        for (key, value) in &self.properties {
            let value = match value {
                toml::Value::Boolean(true) => "on".into(),
                toml::Value::Boolean(false) => "off".into(),
                toml::Value::String(text) => escape(text),
                other => other.to_string(),
            };
            argument += &format!(",{key}={value}");
        }
        argument
    }
}

/// Vendor and device as lspci shows them: each of four digits, lower-case.
fn is_pci_id(text: &str) -> bool {
    let part = |part: &str| {
        part.len() == 4
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    text.split_once(':')
        .is_some_and(|(vendor, device)| part(vendor) && part(device))
}

/// What P2PDMA shall find between a provider and a client.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Which provider.
    pub provider: Provider,
    /// Serial of the NVMe controller that transfers, or `*`.
    pub client: String,
    /// The verdict.
    pub verdict: Verdict,
    /// A known defect because of which the data do not arrive although I/O reports success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defect: Option<String>,
}

/// Kinds of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// QEMU's pci-testdev, bound by the Rust driver.
    Testdev,
    /// An NVMe controller with a controller memory buffer.
    Cmb,
    /// QEMU's ivshmem.
    Ivshmem,
    /// All of them.
    #[serde(rename = "*")]
    Any,
}

/// How the kernel routes between two devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Directly, by bus address.
    BusAddr,
    /// Through the host bridge.
    HostBridge,
    /// Not at all: EINVAL.
    NotSupported,
}

/// How an enumeration is written in a topology file.
pub fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl Expect {
    /// The rule as test programs read it.
    fn rule(&self) -> String {
        let defect = match &self.defect {
            Some(defect) => format!("!{defect}"),
            None => String::new(),
        };
        format!(
            "{}>{}={}{defect}",
            word(&self.provider),
            self.client,
            word(&self.verdict)
        )
    }
}

impl Topology {
    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let topology =
            Self::parse(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        if path.file_stem().and_then(|stem| stem.to_str()) != Some(&topology.name) {
            bail!(
                "{}: its name is \"{}\"; name and file must agree",
                path.display(),
                topology.name
            );
        }
        Ok(topology)
    }

    /// Parses and checks a topology. The error names the line.
    pub fn parse(text: &str) -> Result<Self> {
        let topology: Self = toml::from_str(text)?;
        topology.check().map_err(|(word, message)| {
            // The word that is wrong is somewhere in the text: say where.
            let line = text
                .lines()
                .position(|line| line.contains(&format!("\"{word}\"")))
                .map_or(String::new(), |line| format!("line {}: ", line + 1));
            anyhow!("{line}{message}")
        })?;
        Ok(topology)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let mut ids = BTreeSet::from(["pcie.0", "pci.0"]);
        let mut serials = BTreeSet::new();
        for device in &self.devices {
            if let Some(bus) = device.text("bus") {
                if !ids.contains(bus) {
                    let message = format!("bus \"{bus}\": no device before this one has that id");
                    return Err((bus.into(), message));
                }
            }
            if let Some(id) = &device.id {
                if !ids.insert(id) {
                    return Err((id.clone(), format!("id \"{id}\" is there twice")));
                }
            }
            if device.driver == "nvme" {
                let Some(serial) = device.text("serial") else {
                    let message = "every nvme device needs a serial, tests call it by that";
                    return Err(("nvme".into(), message.into()));
                };
                if !serials.insert(serial) {
                    return Err((serial.into(), format!("serial \"{serial}\" is there twice")));
                }
            }
        }
        for id in self.driver_override.keys() {
            if !is_pci_id(id) {
                let message = format!(
                    "driver_override \"{id}\": an id is vendor and device, as \"1af4:1110\""
                );
                return Err((id.clone(), message));
            }
        }
        for remedy in &self.remedies {
            if remedy.parameter.is_empty() || remedy.parameter.contains(char::is_whitespace) {
                let message = "a remedy is one parameter, without spaces";
                return Err((remedy.parameter.clone(), message.into()));
            }
            let known = |arch| self.architectures.contains(arch);
            if !remedy.architectures.iter().all(known) {
                let message = "a remedy is for architectures that the topology has not";
                return Err((remedy.name.clone(), message.into()));
            }
        }
        let of_remedies = self.remedies.iter().flat_map(|remedy| &remedy.tests);
        for glob in self.tests.iter().chain(of_remedies) {
            if let Err(error) = Pattern::new(glob) {
                return Err((glob.clone(), format!("tests \"{glob}\": {error}")));
            }
        }
        if self.arm64.is_some() && !self.architectures.contains(&Arch::Arm64) {
            let message = "[arm64]: architectures does not have it";
            return Err(("arm64".into(), message.into()));
        }
        let variant = self.arm64.iter().flat_map(|variant| &variant.expect);
        let clients = self.expect.iter().chain(variant);
        let clients = clients.map(|expect| &expect.client);
        for serial in clients.filter(|client| *client != "*").chain(&self.scratch) {
            if !serials.contains(serial.as_str()) && !self.is_virtual(serial) {
                let message = format!("\"{serial}\": no nvme device has that serial");
                return Err((serial.clone(), message));
            }
        }
        self.check_remedies()
    }

    /// Each pair that ACS has refused is mended in another boot, or it is said why it is not.
    fn check_remedies(&self) -> Result<(), (String, String)> {
        let at = |message: String| Err((self.name.clone(), message));
        let mut refused = false;
        for arch in &self.architectures {
            let Some(topology) = self.on(*arch) else {
                continue;
            };
            let Some((provider, client)) = topology.refused_by_acs() else {
                continue;
            };
            refused = true;
            if topology.remedies.is_empty() && self.no_remedy.is_none() {
                return at(format!(
                    "on {arch}, ACS has {provider} and \"{client}\" refused, which are below one \
                     bridge: add a [[remedy]], or say in no_remedy why there is none"
                ));
            }
        }
        match self.no_remedy.as_deref() {
            Some(_) if !refused => at("no_remedy: ACS has no pair refused".into()),
            Some(reason) if reason.trim().is_empty() => at("no_remedy: why?".into()),
            _ => Ok(()),
        }
    }

    /// The ids of the bridges above a device.
    fn bridges_above(&self, device: &Device) -> Vec<&str> {
        let mut above: Vec<&str> = Vec::new();
        let mut at = device.text("bus");
        while let Some(id) = at {
            let bridge = |one: &&Device| one.id.as_deref() == Some(id);
            let bridge = self.devices.iter().find(bridge);
            // a host bridge of its own is above a root bus
            let Some(bridge) = bridge.filter(|bridge| !bridge.driver.starts_with("pxb")) else {
                break;
            };
            above.extend(bridge.id.as_deref());
            at = bridge.text("bus");
        }
        above
    }

    /// A pair that is to be refused although both are below one bridge: ACS alone can do that.
    fn refused_by_acs(&self) -> Option<(String, &str)> {
        let providers = self.devices.iter().filter_map(|device| {
            let kind = match device.driver.as_str() {
                "pci-testdev" => Provider::Testdev,
                "ivshmem-plain" => Provider::Ivshmem,
                "nvme" if device.properties.contains_key("cmb_size_mb") => Provider::Cmb,
                _ => return None,
            };
            Some((word(&kind), device))
        });
        let clients = || {
            let controllers = self.devices.iter().filter(|one| one.driver == "nvme");
            controllers.filter_map(|device| Some((device.text("serial")?, device)))
        };
        let mut pairs = providers.flat_map(|one| clients().map(move |other| (one.clone(), other)));
        pairs.find_map(|((kind, provider), (serial, client))| {
            let above = self.bridges_above(client);
            let is_shared = |bridge: &&str| above.contains(bridge);
            let expect = self.expects(&kind, serial)?;
            let is_refused = expect.verdict == Verdict::NotSupported
                && !std::ptr::eq(provider, client)
                && self.bridges_above(provider).iter().any(is_shared);
            is_refused.then_some((kind, serial))
        })
    }

    /// Whether a client is a virtual function of a controller: `data-vf0` is the first one of
    /// `data`, as `virtfn0` is in sysfs.
    fn is_virtual(&self, client: &str) -> bool {
        let Some((serial, number)) = client.rsplit_once("-vf") else {
            return false;
        };
        let limit = self.devices.iter().find_map(|device| {
            let limit = device.properties.get("sriov_max_vfs")?.as_integer()?;
            (device.text("serial") == Some(serial)).then_some(limit)
        });
        number
            .parse::<u16>()
            .is_ok_and(|number| i64::from(number) < limit.unwrap_or(0))
    }

    /// Whether a device has a namespace: of its own, or one that another line describes.
    pub fn has_namespace(&self, device: &Device) -> bool {
        device.drive.is_some()
            || self.devices.iter().any(|namespace| {
                namespace.driver == "nvme-ns" && namespace.text("bus") == device.id.as_deref()
            })
    }

    /// What it is on `arch`, if it is to be had there.
    pub fn on(&self, arch: Arch) -> Option<Self> {
        if !self.architectures.contains(&arch) {
            return None;
        }
        let mut topology = self.clone();
        topology
            .devices
            .retain(|device| device.only.is_none_or(|only| only == arch));
        let variant = topology.arm64.take();
        if arch == Arch::Arm64 {
            let variant = variant.unwrap_or_default();
            topology.machine = variant.machine;
            topology.cpu = variant.cpu;
            topology.cmdline = variant.cmdline;
            topology.globals = variant.globals;
            topology.description = variant.description.unwrap_or(topology.description);
            topology.memory = variant.memory.unwrap_or(topology.memory);
            if !variant.expect.is_empty() {
                topology.expect = variant.expect;
            }
        }
        topology.architectures = vec![arch];
        topology.remedies.retain(|remedy| remedy.is_for(arch));
        Some(topology)
    }

    /// The same machine, booted with each of its remedies.
    fn remedied(&self) -> impl Iterator<Item = Self> + '_ {
        self.remedies.iter().map(|remedy| {
            let mut topology = Self {
                name: format!("{}-{}", self.name, remedy.name),
                description: remedy.description.clone(),
                tests: remedy.tests.clone(),
                expect: vec![Expect {
                    provider: Provider::Any,
                    client: "*".into(),
                    verdict: Verdict::BusAddr,
                    defect: None,
                }],
                remedies: Vec::new(),
                no_remedy: None,
                ..self.clone()
            };
            topology.architectures.retain(|arch| remedy.is_for(*arch));
            let add = |cmdline: &mut String| *cmdline = format!("{cmdline} {}", remedy.parameter);
            add(&mut topology.cmdline);
            // Where there is none, the command line would be empty.
            let variant = topology.arm64.get_or_insert_default();
            add(&mut variant.cmdline);
            variant.description = None;
            variant.expect.clear();
            topology
        })
    }

    /// What is expected of a pair: a kind of provider, and the serial of a client.
    pub fn expects(&self, provider: &str, client: &str) -> Option<&Expect> {
        self.expect.iter().find(|expect| {
            (expect.provider == Provider::Any || word(&expect.provider) == provider)
                && (expect.client == "*" || expect.client == client)
        })
    }

    /// Whether a test of this name runs in it, as far as the topology has a say.
    pub fn wants(&self, test: &str) -> bool {
        self.tests.is_empty()
            || self
                .tests
                .iter()
                .any(|glob| Pattern::new(glob).is_ok_and(|glob| glob.matches(test)))
    }

    /// What a machine needs for it beside the devices, in words.
    pub fn needs(&self) -> Vec<String> {
        let mut needs = Vec::new();
        if self.cpu != default_cpu() {
            needs.push(format!("the processor: -cpu {}", self.cpu));
        }
        if self.smp != default_smp() {
            needs.push(format!("as many processors: -smp {}", self.smp));
        }
        if !self.cmdline.trim().is_empty() {
            let cmdline = self.cmdline.trim();
            needs.push(format!("on the kernel's command line: {cmdline}"));
        }
        for module in self.modules.iter().filter(|module| module.contains(' ')) {
            needs.push(format!("the module with its parameters: {module}"));
        }
        for (device, driver) in &self.driver_override {
            needs.push(format!("driver_override {driver} for each {device}"));
        }
        if let Some(script) = &self.prepare {
            needs.push(format!("what is run before the tests: {script}"));
        }
        needs
    }

    /// What each test program is told, as environment.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let rules: Vec<String> = self.expect.iter().map(Expect::rule).collect();
        let mut environment = BTreeMap::from([
            ("P2PDMA_TOPOLOGY".into(), self.name.clone()),
            ("P2PDMA_EXPECT".into(), rules.join(" ")),
        ]);
        if !self.scratch.is_empty() {
            environment.insert("P2PDMA_SCRATCH".into(), self.scratch.join(" "));
        }
        if !self.remedies.is_empty() {
            let parameters = self.remedies.iter().map(|one| one.parameter.as_str());
            let parameters = parameters.collect::<Vec<_>>().join(" ");
            environment.insert("P2PDMA_REMEDY".into(), parameters);
        }
        environment
    }
}

/// Reads all topologies of a directory, by name, and with them what their remedies make of them.
pub fn read_all(directory: &Path) -> Result<BTreeMap<String, Topology>> {
    let files = || -> std::io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries.iter().map(std::fs::DirEntry::path).collect())
    };
    let files = files()
        .with_context(|| format!("no topologies in {}", directory.display()))?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "toml"));
    let mut topologies = BTreeMap::new();
    for file in files {
        let topology = Topology::read(&file)?;
        for one in topology.remedied().chain([topology.clone()]) {
            if let Some(other) = topologies.insert(one.name.clone(), one) {
                bail!("topology {} is there twice", other.name);
            }
        }
    }
    if topologies.is_empty() {
        bail!("no topologies in {}", directory.display());
    }
    Ok(topologies)
}

/// Those of them that are to be had on `arch`, as they are there.
pub fn on(all: &BTreeMap<String, Topology>, arch: Arch) -> BTreeMap<String, Topology> {
    all.iter()
        .filter_map(|(name, topology)| Some((name.clone(), topology.on(arch)?)))
        .collect()
}

/// Picks topologies by name, in the order asked for; all, where none is asked for.
pub fn pick<'a>(
    all: &'a BTreeMap<String, Topology>,
    names: &[String],
) -> Result<Vec<&'a Topology>> {
    if names.is_empty() {
        return Ok(all
            .values()
            .filter(|topology| !topology.on_request)
            .collect());
    }
    let mut picked: Vec<&Topology> = Vec::new();
    for name in names {
        let topology = all.get(name).ok_or_else(|| {
            anyhow!(
                "unknown topology \"{name}\"; there are: {}",
                all.keys().cloned().collect::<Vec<_>>().join(", ")
            )
        })?;
        if !picked.iter().any(|other| other.name == topology.name) {
            picked.push(topology);
        }
    }
    Ok(picked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "small"
description = "one port"
cpu = "EPYC"
scratch = ["data"]
devices = [
    { driver = "pcie-root-port", id = "rp", bus = "pcie.0", chassis = 1 },
    {   driver = "nvme", bus = "rp", serial = "data", drive = "64M", cmb_size_mb = 64 },
    {   driver = "pci-testdev", bus = "rp", membar-backed = true, note = "a,b" },
]

[[expect]]
provider = "testdev"
client = "data"
verdict = "bus-addr"
defect = "qemu-viommu-p2p"

[[expect]]
provider = "*"
client = "*"
verdict = "not-supported"
"#;

    fn error(text: &str) -> String {
        format!("{:#}", Topology::parse(text).expect_err("is wrong"))
    }

    #[test]
    fn a_topology_is_read() {
        let topology = Topology::parse(GOOD).expect("parses");
        assert_eq!(topology.machine, "q35");
        assert_eq!(topology.devices[1].drive.as_deref(), Some("64M"));
        assert_eq!(
            topology.devices[1].argument(),
            "nvme,bus=rp,cmb_size_mb=64,serial=data"
        );
        assert_eq!(
            topology.devices[2].argument(),
            "pci-testdev,bus=rp,membar-backed=on,note=a,,b"
        );
        let environment = topology.environment();
        assert_eq!(environment["P2PDMA_TOPOLOGY"], "small");
        assert_eq!(
            environment["P2PDMA_EXPECT"],
            "testdev>data=bus-addr!qemu-viommu-p2p *>*=not-supported"
        );
        assert_eq!(environment["P2PDMA_SCRATCH"], "data");
    }

    #[test]
    fn a_topology_has_a_variant_for_another_architecture() {
        let plain = Topology::parse(GOOD).expect("parses");
        assert!(plain.on(Arch::Arm64).is_none());
        assert_eq!(plain.on(Arch::X86_64).expect("is there").cpu, "EPYC");
        let text = GOOD
            .replace(
                "cpu = \"EPYC\"",
                "cpu = \"EPYC\"\narchitectures = [\"x86_64\", \"arm64\"]",
            )
            .replace("note = \"a,b\"", "only = \"x86_64\"");
        let bare = Topology::parse(&text).expect("parses");
        let arm64 = bare.on(Arch::Arm64).expect("is there");
        assert_eq!(arm64.machine, "virt,gic-version=max");
        assert_eq!(arm64.cpu, "max");
        assert_eq!(arm64.devices.len(), 2);
        assert_eq!(arm64.expect.len(), 2);
        let x86 = bare.on(Arch::X86_64).expect("is there");
        assert_eq!(x86.devices.len(), 3);
        assert!(!x86.devices[2].argument().contains("only"));
        let variant = "[arm64]\nmachine = \"virt,iommu=smmuv3\"\n[[arm64.expect]]\n\
                       provider = \"*\"\nclient = \"*\"\nverdict = \"bus-addr\"\n";
        let text = format!("{text}{variant}");
        let arm64 = Topology::parse(&text).expect("parses").on(Arch::Arm64);
        let arm64 = arm64.expect("is there");
        assert_eq!(arm64.machine, "virt,iommu=smmuv3");
        assert_eq!(arm64.environment()["P2PDMA_EXPECT"], "*>*=bus-addr");
        let message = error(&format!("{GOOD}{variant}"));
        assert!(
            message.contains("architectures does not have it"),
            "{message}"
        );
        let all = BTreeMap::from([("small".into(), plain)]);
        assert!(on(&all, Arch::Arm64).is_empty());
    }

    #[test]
    fn a_topology_can_be_there_for_some_tests() {
        let topology = Topology::parse(GOOD).expect("parses");
        assert!(topology.wants("p2pdma_bind"));
        assert!(topology
            .needs()
            .contains(&"the processor: -cpu EPYC".into()));
        let text = GOOD.replace("cpu = \"EPYC\"", "tests = [\"*_surprise\"]");
        let topology = Topology::parse(&text).expect("parses");
        assert!(topology.wants("p2pdma_surprise"));
        assert!(!topology.wants("p2pdma_bind"));
    }

    #[test]
    fn virtual_functions_are_clients_of_their_own() {
        let text = GOOD
            .replace(
                "drive = \"64M\", cmb_size_mb = 64",
                "id = \"n\", sriov_max_vfs = 2",
            )
            .replace("client = \"data\"", "client = \"data-vf1\"")
            // the controller itself is refused then
            .replace("cpu = \"EPYC\"", "no_remedy = \"it is not booted\"");
        let topology = Topology::parse(&text).expect("parses");
        assert!(!topology.has_namespace(&topology.devices[1]));
        let namespace = "{ driver = \"nvme-ns\", bus = \"n\", drive = \"1M\" },\n]\n\n[[expect";
        let with = Topology::parse(&text.replacen("]\n\n[[expect", namespace, 1)).expect("parses");
        assert!(with.has_namespace(&with.devices[1]));
        assert!(!with.has_namespace(&with.devices[0]));
        for name in ["data-vf2", "data-vf", "date-vf0", "data-vf-1"] {
            let message = error(&text.replace("data-vf1", name));
            assert!(
                message.contains("no nvme device has that serial"),
                "{message}"
            );
        }
        let message = error(&GOOD.replace("client = \"data\"", "client = \"data-vf0\""));
        assert!(
            message.contains("no nvme device has that serial"),
            "{message}"
        );
    }

    #[test]
    fn without_scratch_there_is_no_such_variable() {
        let topology = Topology::parse(&GOOD.replace("scratch = [\"data\"]", "")).expect("parses");
        assert!(!topology.environment().contains_key("P2PDMA_SCRATCH"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let message = error(&GOOD.replace("cpu =", "cpus ="));
        assert!(message.contains("line 4"), "{message}");
        assert!(message.contains("cpus"), "{message}");
        let message = error(&GOOD.replace("\"bus-addr\"", "\"bus-address\""));
        assert!(message.contains("line 15"), "{message}");
        assert!(message.contains("not-supported"), "{message}");
        let message = error(&GOOD.replace("bus = \"rp\", serial", "bus = \"rq\", serial"));
        assert_eq!(
            message,
            "line 8: bus \"rq\": no device before this one has that id"
        );
        let message = error(&GOOD.replace("scratch = [\"data\"]", "scratch = [\"date\"]"));
        assert_eq!(message, "line 5: \"date\": no nvme device has that serial");
        let message = error(&GOOD.replace(
            "scratch = [\"data\"]",
            "driver_override = { \"1AF4:1110\" = \"p2pdma_provider\" }",
        ));
        assert_eq!(
            message,
            "line 5: driver_override \"1AF4:1110\": an id is vendor and device, as \"1af4:1110\""
        );
        let message = error(&GOOD.replace("cpu = \"EPYC\"", "tests = [\"a**\"]"));
        assert!(message.starts_with("line 4: tests \"a**\": "), "{message}");
        let message = error(&GOOD.replace("serial = \"data\", drive", "drive"));
        assert!(message.contains("needs a serial"), "{message}");
        assert!(error("name = ").contains("line 1"));
    }

    #[test]
    fn name_and_file_agree() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("other.toml");
        fs::write(&path, GOOD).expect("write");
        let message = Topology::read(&path).expect_err("differs").to_string();
        assert!(message.contains("must agree"), "{message}");
        fs::rename(&path, directory.path().join("small.toml")).expect("rename");
        let all = read_all(directory.path()).expect("reads");
        assert_eq!(pick(&all, &[]).expect("all").len(), 1);
        let mut hidden = all.clone();
        for topology in hidden.values_mut() {
            topology.on_request = true;
        }
        assert!(pick(&hidden, &[]).expect("none").is_empty());
        assert_eq!(pick(&hidden, &["small".into()]).expect("picks").len(), 1);
        let twice = ["small".to_string(), "small".to_string()];
        assert_eq!(pick(&all, &twice).expect("picks").len(), 1);
        let message = pick(&all, &["big".into()])
            .expect_err("unknown")
            .to_string();
        assert_eq!(message, "unknown topology \"big\"; there are: small");
    }

    #[test]
    fn remedies_are_boots_of_their_own() {
        let text = format!(
            "{GOOD}\n[[remedy]]\nname = \"by-path\"\ndescription = \"again\"\n\
             parameter = \"pci=x@1;2\"\n"
        );
        let directory = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("small.toml"), &text).expect("write");
        let all = read_all(directory.path()).expect("reads");
        let (first, second) = (&all["small"], &all["small-by-path"]);
        assert_eq!(first.environment()["P2PDMA_REMEDY"], "pci=x@1;2");
        assert!(!second.environment().contains_key("P2PDMA_REMEDY"));
        assert_eq!(second.cmdline, format!("{} pci=x@1;2", first.cmdline));
        assert_eq!(second.environment()["P2PDMA_EXPECT"], "*>*=bus-addr");
        assert!(second.wants("p2pdma_predict") && !second.wants("p2pdma_pool"));
        // also on an architecture of which the file says nothing
        let both = text.replacen("\n", "\narchitectures = [\"x86_64\", \"arm64\"]\n", 1);
        fs::write(path("small.toml"), both).expect("write");
        let all = read_all(directory.path()).expect("reads");
        let second = all["small-by-path"].on(Arch::Arm64).expect("there");
        assert_eq!(second.cmdline.trim(), "pci=x@1;2");
        let twice = text.replace("\"small\"", "\"small-by-path\"");
        fs::write(path("small-by-path.toml"), twice).expect("write");
        let message = read_all(directory.path()).expect_err("twice").to_string();
        assert_eq!(message, "topology small-by-path is there twice");
        let error = Topology::parse(&text.replace("x@1;2", "x y")).expect_err("spaces");
        assert!(error.to_string().contains("without spaces"), "{error}");
    }

    /// What ACS has refused below one bridge is mended in another boot, or it is said why not.
    #[test]
    fn refusals_by_acs_have_remedies() {
        let devices = "devices = [\n\
             { driver = \"pxb-pcie\", id = \"host\", bus = \"pcie.0\", bus_nr = 32 },\n\
             { driver = \"pcie-root-port\", id = \"one\", bus = \"host\", chassis = 1 },\n\
             { driver = \"x3130-upstream\", id = \"up\", bus = \"one\" },\n\
             { driver = \"xio3130-downstream\", id = \"down\", bus = \"up\", chassis = 3 },\n\
             { driver = \"pcie-root-port\", id = \"two\", bus = \"host\", chassis = 2 },\n\
             { driver = \"nvme\", bus = \"CLIENT\", serial = \"data\", drive = \"64M\" },\n\
             { driver = \"pci-testdev\", bus = \"down\", membar = \"64M\" },\n]\n";
        let text = |client: &str, more: &str, arm64: &str, verdict: &str| {
            format!(
                "name = \"small\"\ndescription = \"x\"\n\
                 architectures = [\"x86_64\", \"arm64\"]\n{more}\n{}{arm64}\n\
                 [[expect]]\nprovider = \"*\"\nclient = \"*\"\nverdict = \"{verdict}\"\n",
                devices.replace("CLIENT", client)
            )
        };
        let remedy = |more: &str| {
            format!("[[remedy]]\nname = \"a\"\ndescription = \"b\"\nparameter = \"c\"\n{more}")
        };
        let refused = text("up", "", "", "not-supported");
        assert_eq!(
            error(&refused),
            "line 1: on x86_64, ACS has testdev and \"data\" refused, which are below one bridge: \
             add a [[remedy]], or say in no_remedy why there is none"
        );
        for good in [
            text("up", "", "", "bus-addr"),
            text("up", "", "", "host-bridge"),
            // two ports of one host bridge
            text("two", "", "", "not-supported"),
            text("up", "no_remedy = \"because\"", "", "not-supported"),
            format!("{refused}{}", remedy("")),
        ] {
            Topology::parse(&good).expect(&good);
        }
        for (bad, said) in [
            (
                text("up", "no_remedy = \" \"", "", "not-supported"),
                "no_remedy: why?",
            ),
            (
                text("up", "no_remedy = \"because\"", "", "bus-addr"),
                "no_remedy: ACS has no pair refused",
            ),
            // of one architecture
            (
                format!("{refused}{}", remedy("architectures = [\"x86_64\"]\n")),
                "on arm64, ACS has testdev",
            ),
        ] {
            let message = error(&bad);
            assert!(message.contains(said), "{message}");
        }
        // where it is not the same on both, the boot is for the one
        let variant = "[arm64]\n[[arm64.expect]]\nprovider = \"*\"\nclient = \"*\"\n\
                       verdict = \"not-supported\"\n";
        let both = text("up", "", variant, "bus-addr");
        assert!(error(&both).contains("on arm64, ACS has testdev"));
        let one = format!("{both}{}", remedy("architectures = [\"arm64\"]\n"));
        let one = Topology::parse(&one).expect("it");
        let second = one.remedied().next().expect("a boot");
        assert_eq!(second.architectures, [Arch::Arm64]);
        let first = |arch| one.on(arch).expect("it").environment();
        assert_eq!(first(Arch::Arm64)["P2PDMA_REMEDY"], "c");
        assert!(!first(Arch::X86_64).contains_key("P2PDMA_REMEDY"));
        // nor for one that is not there
        let other = format!("{refused}{}", remedy("architectures = [\"arm64\"]\n"));
        let other = other.replacen("[\"x86_64\", \"arm64\"]", "[\"x86_64\"]", 1);
        assert!(error(&other).contains("architectures that the topology has not"));
    }

    #[test]
    fn the_projects_own_topologies_are_right() {
        let directory =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../testing/selftests/p2pdma/topologies");
        let all = read_all(&directory).expect("all parse");
        for name in ["switch", "root-ports-amd", "root-ports-intel"] {
            assert!(all.contains_key(name), "{name}");
        }
        for arch in Arch::ALL {
            for topology in on(&all, arch).values() {
                assert!(!topology.expect.is_empty(), "{} on {arch}", topology.name);
            }
        }
    }
}
