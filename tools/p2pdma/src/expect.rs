// SPDX-License-Identifier: GPL-2.0

//! What is expected of pairs of providers and clients.

use std::str::FromStr;

use crate::machine::{Client, Provider};

/// How the kernel should judge a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Transfers should work: `bus-addr` or `host-bridge`.
    Works,
    /// The kernel should refuse: `not-supported`.
    Refused,
}

/// `PROVIDER>CLIENT=VERDICT[!DEFECT]`, as the kselftests take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    provider: String,
    client: String,
    /// What should come out.
    pub expected: Expected,
    /// Name of a defect that is known to make the data wrong.
    pub defect: Option<String>,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (provider, rest) = text.split_once('>')?;
            let (client, verdict) = rest.rsplit_once('=')?;
            let (verdict, defect) = match verdict.split_once('!') {
                Some((verdict, defect)) => (verdict, Some(defect)),
                None => (verdict, None),
            };
            let expected = match verdict {
                "bus-addr" | "host-bridge" => Expected::Works,
                "not-supported" => Expected::Refused,
                _ => return None,
            };
            let complete = !provider.is_empty() && !client.is_empty() && defect != Some("");
            complete.then(|| Rule {
                provider: provider.to_owned(),
                client: client.to_owned(),
                expected,
                defect: defect.map(str::to_owned),
            })
        };
        parse().ok_or_else(|| {
            "not PROVIDER>CLIENT=VERDICT[!DEFECT] with bus-addr, host-bridge or not-supported for \
             the verdict"
                .to_owned()
        })
    }
}

impl Rule {
    fn covers(&self, provider: &Provider, client: &Client) -> bool {
        let is = |pattern: &str, names: &[&str]| pattern == "*" || names.contains(&pattern);
        is(&self.provider, &[&provider.kind, &provider.bdf.to_string()])
            && is(&self.client, &[&client.serial, &client.bdf.to_string()])
    }
}

/// The first rule that covers a pair.
pub fn find<'a>(rules: &'a [Rule], provider: &Provider, client: &Client) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.covers(provider, client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    #[test]
    fn reads_rules() {
        let rule: Rule = "cmb>plain=host-bridge!qemu-viommu-p2p"
            .parse()
            .expect("a rule");
        assert_eq!(
            (rule.provider.as_str(), rule.client.as_str()),
            ("cmb", "plain")
        );
        assert_eq!(rule.expected, Expected::Works);
        assert_eq!(rule.defect.as_deref(), Some("qemu-viommu-p2p"));
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "cmb",
            "cmb>plain",
            "cmb>plain=maybe",
            ">p=bus-addr",
            "c>=bus-addr",
            "c>p=bus-addr!",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    #[test]
    fn takes_the_first_that_covers() {
        let machine = fake::switch().read();
        let rules: Vec<Rule> = [
            "testdev>cmb=not-supported",
            "cmb>0000:04:00.0=not-supported",
            "*>*=bus-addr",
        ]
        .iter()
        .map(|text| text.parse().expect("a rule"))
        .collect();
        let expected = |provider: usize, client: usize| {
            let rule = find(
                &rules,
                &machine.providers[provider],
                &machine.clients[client],
            );
            rule.map(|rule| rule.expected)
        };
        assert_eq!(expected(0, 0), Some(Expected::Works));
        assert_eq!(expected(0, 1), Some(Expected::Refused));
        assert_eq!(expected(1, 0), Some(Expected::Refused));
        assert_eq!(expected(1, 1), Some(Expected::Works));
    }
}
