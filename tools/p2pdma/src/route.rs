// SPDX-License-Identifier: GPL-2.0

//! The way from a client to a provider, as the kernel judges it.
//!
//! This follows `calc_map_type_and_dist()` in drivers/pci/p2pdma.c. What could not be read, such as
//! ACS settings without root, makes the answer unknown, not wrong.

use serde::Serialize;

use crate::bdf::Bdf;
use crate::config_space::PortType;
use crate::host_bridge;
use crate::machine::{Device, Machine};

/// How peer-to-peer traffic between two functions goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "via", rename_all = "kebab-case")]
pub enum Via {
    /// Client and provider are one function.
    SameFunction,
    /// Below a bridge that both share, without touching the host.
    Bridge {
        /// The bridge.
        bridge: Bdf,
    },
    /// Through the host bridge.
    HostBridge {
        /// Whether the kernel allows it; unknown if what decides could not be read.
        allowed: Option<bool>,
        /// Bridges whose ACS settings are the reason for it, though there is a shorter way.
        acs_redirect: Vec<Bdf>,
    },
    /// Below a bridge that both share, or through the host bridge: ACS settings are not known.
    Unknown {
        /// The bridge.
        bridge: Bdf,
        /// Whether the kernel allows the traffic through the host bridge.
        host_bridge_allowed: Option<bool>,
        /// Those whose ACS settings could not be read.
        acs_unknown: Vec<Bdf>,
    },
}

impl Via {
    /// Whether the kernel lets the pair do it; `None` if that cannot be told.
    pub fn works(&self) -> Option<bool> {
        match self {
            Via::SameFunction | Via::Bridge { .. } => Some(true),
            Via::HostBridge { allowed, .. } => *allowed,
            // it works either way, or it depends
            Via::Unknown {
                host_bridge_allowed,
                ..
            } => (*host_bridge_allowed == Some(true)).then_some(true),
        }
    }
}

/// The way between a provider and a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The provider.
    pub provider: Bdf,
    /// The client.
    pub client: Bdf,
    /// The kernel's measure of how far apart they are.
    pub distance: usize,
    /// How the traffic goes.
    #[serde(flatten)]
    pub via: Via,
}

/// A function and all bridges above it, nearest first.
pub fn upwards(machine: &Machine, from: Bdf) -> Vec<Bdf> {
    let mut path = vec![from];
    let mut at = from;
    while let Some(parent) = machine.devices.get(&at).and_then(|device| device.parent) {
        // a tree has no circles, but this is only as good as what was read
        if path.contains(&parent) {
            break;
        }
        path.push(parent);
        at = parent;
    }
    path
}

/// The first device of a root bus, by which the kernel knows a host bridge, as
/// `pci_host_bridge_dev()` finds it: function 00.0 or a root port.
///
/// `Err` with the device if it could not be found out whether it is one.
pub fn host_bridge_device<'a>(
    machine: &'a Machine,
    root_bus: &str,
) -> Result<Option<&'a Device>, &'a Device> {
    let first = machine.first_on_root.get(root_bus);
    let Some(first) = first.and_then(|bdf| machine.devices.get(bdf)) else {
        return Ok(None);
    };
    // without a class it may be a port, without ids it may be in the list
    let may_be_port = first.is_bridge() || first.class == 0;
    match first.port_type {
        _ if first.vendor_id == 0xffff => Err(first),
        _ if first.bdf.is_slot_zero() => Ok(Some(first)),
        Some(PortType::RootPort) => Ok(Some(first)),
        None if may_be_port && first.acs_redirect.is_none() => Err(first),
        _ => Ok(None),
    }
}

/// Whether the kernel lets two functions talk through their host bridges: the processor's rule,
/// then `host_bridge_whitelist()`.
pub fn host_bridge_allows(machine: &Machine, a: Bdf, b: Bdf) -> Option<bool> {
    if machine.cpu_allows_any_pair == Some(true) {
        return Some(true);
    }
    let root_bus = |bdf| machine.devices.get(&bdf).map(|device| &device.root_bus);
    let (a, b) = (root_bus(a)?, root_bus(b)?);
    let kernel = machine.kernel.as_deref().and_then(host_bridge::version);
    // lists of others are not known
    let is_known = host_bridge::is_compared(kernel);
    let listed = |device: &Device| {
        let ids = (device.vendor_id, device.device_id);
        if host_bridge::added(&machine.added_host_bridges, ids, a == b) {
            return Some(true);
        }
        is_known.then(|| host_bridge::allows(ids, a == b, kernel))
    };
    let one = |bus: &str| match host_bridge_device(machine, bus) {
        Ok(Some(device)) => listed(device),
        Ok(None) => is_known.then_some(false),
        // if it is not in the list, it does not matter what it is
        Err(device) if device.vendor_id == 0xffff => None,
        Err(device) => listed(device).filter(|listed| !listed),
    };
    match (one(a), one(b)) {
        (Some(true), Some(true)) => Some(true),
        // the list says no; without a processor that is known, it may not be asked at all
        (Some(false), _) | (_, Some(false)) => machine.cpu_allows_any_pair,
        _ => None,
    }
}

/// The way between a provider and a client.
///
/// Takes as long as the two are deep, however large the machine is.
pub fn route(machine: &Machine, provider: Bdf, client: Bdf) -> Route {
    let above_provider = upwards(machine, provider);
    let above_client = upwards(machine, client);
    let allowed = || host_bridge_allows(machine, provider, client);

    let shared = above_provider.iter().enumerate().find_map(|(up, bridge)| {
        let down = above_client.iter().position(|other| other == bridge)?;
        Some((up, down, *bridge))
    });
    let (distance, via) = match shared {
        Some((up, down, bridge)) => {
            // the shared bridge is judged with the provider's side
            let between = || above_provider[..=up].iter().chain(&above_client[..down]);
            let with = |acs: Option<bool>| -> Vec<Bdf> {
                let is = |bdf: &&Bdf| machine.devices.get(bdf).and_then(|d| d.acs_redirect) == acs;
                between().filter(is).copied().collect()
            };
            let (acs_redirect, acs_unknown) = (with(Some(true)), with(None));
            let via = if !acs_redirect.is_empty() {
                Via::HostBridge {
                    allowed: allowed(),
                    acs_redirect,
                }
            } else if !acs_unknown.is_empty() && up + down > 0 {
                Via::Unknown {
                    bridge,
                    host_bridge_allowed: allowed(),
                    acs_unknown,
                }
            } else if up + down > 0 {
                Via::Bridge { bridge }
            } else {
                Via::SameFunction
            };
            (up + down, via)
        }
        None => {
            let via = Via::HostBridge {
                allowed: allowed(),
                acs_redirect: Vec::new(),
            };
            (above_provider.len() + above_client.len(), via)
        }
    };
    Route {
        provider,
        client,
        distance,
        via,
    }
}

/// All functions between a provider and a client and these two, without what both are below,
/// unless the traffic has to go up there.
pub fn between(machine: &Machine, route: &Route) -> Vec<Bdf> {
    let mut up = upwards(machine, route.provider);
    let mut down = upwards(machine, route.client);
    if let Via::Bridge { bridge } | Via::Unknown { bridge, .. } = &route.via {
        up.truncate(up.iter().position(|bdf| bdf == bridge).unwrap_or(up.len()));
        down.truncate(
            down.iter()
                .position(|bdf| bdf == bridge)
                .unwrap_or(down.len()),
        );
    }
    if route.via == Via::SameFunction {
        return Vec::new();
    }
    down.reverse();
    up.retain(|bdf| !down.contains(bdf));
    up.extend(down);
    up
}

/// All functions whose ACS settings are in the path: up to the bridge that both share, that one
/// too, or to the root buses.
pub fn judged(machine: &Machine, route: &Route) -> Vec<Bdf> {
    let up = upwards(machine, route.provider);
    let down = upwards(machine, route.client);
    if route.via == Via::SameFunction {
        return Vec::new();
    }
    let shared = up.iter().position(|bdf| down.contains(bdf));
    let upper = shared.map_or(up.len(), |at| at + 1);
    let down = down.iter().take_while(|bdf| !up.contains(bdf));
    up[..upper].iter().chain(down).copied().collect()
}

/// All ways from the providers to the clients.
pub fn routes(machine: &Machine) -> Vec<Route> {
    let pairs = machine
        .providers
        .iter()
        .flat_map(|provider| machine.clients.iter().map(move |client| (provider, client)));
    pairs
        .map(|(provider, client)| route(machine, provider.bdf, client.bdf))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    fn bdf(text: &str) -> Bdf {
        text.parse().expect("an address")
    }

    #[test]
    fn one_function_reaches_itself() {
        let machine = fake::switch().read();
        let route = route(&machine, bdf("03:00.0"), bdf("03:00.0"));
        assert_eq!((route.distance, route.via), (0, Via::SameFunction));
    }

    #[test]
    fn a_switch_is_four_hops_wide() {
        let machine = fake::switch().read();
        let route = route(&machine, bdf("05:00.0"), bdf("04:00.0"));
        let bridge = bdf("01:00.0");
        assert_eq!((route.distance, route.via), (4, Via::Bridge { bridge }));
    }

    #[test]
    fn acs_below_the_shared_bridge_redirects() {
        let fake = fake::switch();
        let port = "sys/bus/pci/devices/0000:02:01.0/config";
        let redirecting = crate::config_space::fake::config(6, Some(0x1d));
        fake.write(port, &redirecting);
        let route_of = |provider, client| route(&fake.read(), bdf(provider), bdf(client));
        let through_host = Via::HostBridge {
            allowed: Some(false),
            acs_redirect: vec![bdf("02:01.0")],
        };
        let found = route_of("05:00.0", "04:00.0");
        assert_eq!((found.distance, found.via), (4, through_host));
        // not on the way between the other two
        let bridge = bdf("01:00.0");
        assert_eq!(route_of("05:00.0", "03:00.0").via, Via::Bridge { bridge });
    }

    #[test]
    fn acs_of_the_shared_bridge_redirects() {
        let fake = fake::root_ports(Some(0x1d));
        let port = "0000:00:01.0";
        let second = [port, "0000:01:00.1"];
        fake.function(&second, (0x1b36, 0x0005, 0x00_ff00), "p2pdma_provider");
        let found = route(&fake.read(), bdf("01:00.1"), bdf("01:00.0"));
        let via = Via::HostBridge {
            allowed: Some(false),
            acs_redirect: vec![bdf(port)],
        };
        assert_eq!((found.distance, found.via), (2, via));
    }

    #[test]
    fn acs_above_the_shared_bridge_does_not_matter() {
        let fake = fake::switch();
        let redirecting = crate::config_space::fake::config(4, Some(0x1d));
        fake.write("sys/bus/pci/devices/0000:00:01.0/config", &redirecting);
        let route = route(&fake.read(), bdf("05:00.0"), bdf("04:00.0"));
        assert_eq!(
            route.via,
            Via::Bridge {
                bridge: bdf("01:00.0")
            }
        );
    }

    #[test]
    fn root_ports_meet_in_the_host_bridge() {
        let fake = fake::root_ports(None);
        let found = route(&fake.read(), bdf("03:00.0"), bdf("02:00.0"));
        let via = |allowed| Via::HostBridge {
            allowed,
            acs_redirect: Vec::new(),
        };
        assert_eq!((found.distance, found.via), (4, via(Some(false))));
        fake.cpu("AuthenticAMD", 0x19);
        let found = route(&fake.read(), bdf("03:00.0"), bdf("02:00.0"));
        assert_eq!(found.via, via(Some(true)));
    }

    /// A configuration space that is cut may be one of a root port that the list has.
    #[test]
    fn the_host_bridges_device_may_be_unknown() {
        let fake = fake::Fake::new();
        // its ids are in the list
        let listed = (0x8086, 0x2030, 0x06_0400);
        let port = fake.function(&["0000:00:01.0"], listed, "pcieport");
        let whole = crate::config_space::fake::config(4, Some(0));
        for length in [64, 80, 112, 128, 130] {
            fake.write(&format!("{port}/config"), &whole[..length]);
            let machine = fake.read();
            let found = host_bridge_device(&machine, "pci0000:00").map(|_| ());
            assert_eq!(found.map_err(|device| device.bdf), Err(bdf("00:01.0")));
        }
        fake.write(&format!("{port}/config"), &whole);
        let machine = fake.read();
        let found = host_bridge_device(&machine, "pci0000:00").expect("known");
        assert_eq!(found.map(|device| device.bdf), Some(bdf("00:01.0")));

        // without ids it may be in the list, wherever it is
        let fake = fake::root_ports(Some(0));
        fake.write("sys/bus/pci/devices/0000:00:01.0/vendor", "0xffff\n");
        let machine = fake.read();
        assert!(host_bridge_device(&machine, "pci0000:00").is_err());
        let allowed = host_bridge_allows(&machine, bdf("03:00.0"), bdf("02:00.0"));
        assert_eq!(allowed, None);
    }

    #[test]
    fn the_shared_bridge_is_judged_once() {
        let machine = fake::switch().read();
        let judged_of = |a, b| {
            let bdfs = judged(&machine, &route(&machine, bdf(a), bdf(b)));
            bdfs.iter().map(Bdf::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            judged_of("05:00.0", "04:00.0"),
            [
                "0000:05:00.0",
                "0000:02:02.0",
                "0000:01:00.0",
                "0000:04:00.0",
                "0000:02:01.0"
            ]
        );
        assert_eq!(
            judged_of("00:00.0", "01:00.0"),
            ["0000:00:00.0", "0000:01:00.0", "0000:00:01.0"]
        );
        assert!(judged_of("05:00.0", "05:00.0").is_empty());
    }

    #[test]
    fn every_pair_has_a_route() {
        assert_eq!(routes(&fake::switch().read()).len(), 4);
    }
}
