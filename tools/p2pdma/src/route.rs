// SPDX-License-Identifier: GPL-2.0

//! The way from a client to a provider, as the kernel judges it.
//!
//! This follows `calc_map_type_and_dist()` in drivers/pci/p2pdma.c. It cannot know the kernel's
//! list of host bridges, so a way through one is only predicted where the processor decides.

use serde::Serialize;

use crate::bdf::Bdf;
use crate::machine::Machine;

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
        /// Whether the kernel allows it; unknown if its list of host bridges decides.
        allowed: Option<bool>,
        /// Bridges whose ACS settings are the reason for it, though there is a shorter way.
        acs_redirect: Vec<Bdf>,
    },
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
fn upwards(machine: &Machine, from: Bdf) -> Vec<Bdf> {
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

/// The way between a provider and a client.
pub fn route(machine: &Machine, provider: Bdf, client: Bdf) -> Route {
    let above_provider = upwards(machine, provider);
    let above_client = upwards(machine, client);
    let redirects = |path: &[Bdf]| -> Vec<Bdf> {
        let set = |bdf: &&Bdf| {
            let device = machine.devices.get(bdf);
            device.is_some_and(|device| device.acs_redirect == Some(true))
        };
        path.iter().filter(set).copied().collect()
    };
    let host_bridge = |acs_redirect| Via::HostBridge {
        allowed: machine.cpu_allows_any_pair.then_some(true),
        acs_redirect,
    };

    let shared = above_provider.iter().enumerate().find_map(|(up, bridge)| {
        let down = above_client.iter().position(|other| other == bridge)?;
        Some((up, down, *bridge))
    });
    let (distance, via) = match shared {
        Some((up, down, bridge)) => {
            // the shared bridge is judged with the provider's side
            let mut redirecting = redirects(&above_provider[..=up]);
            redirecting.extend(redirects(&above_client[..down]));
            let via = match (redirecting.is_empty(), up + down) {
                (true, 0) => Via::SameFunction,
                (true, _) => Via::Bridge { bridge },
                (false, _) => host_bridge(redirecting),
            };
            (up + down, via)
        }
        None => {
            let distance = above_provider.len() + above_client.len();
            (distance, host_bridge(Vec::new()))
        }
    };
    Route {
        provider,
        client,
        distance,
        via,
    }
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
            allowed: None,
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
            allowed: None,
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
        assert_eq!((found.distance, found.via), (4, via(None)));
        fake.cpu("AuthenticAMD", 0x19);
        let found = route(&fake.read(), bdf("03:00.0"), bdf("02:00.0"));
        assert_eq!(found.via, via(Some(true)));
    }

    #[test]
    fn every_pair_has_a_route() {
        assert_eq!(routes(&fake::switch().read()).len(), 4);
    }
}
