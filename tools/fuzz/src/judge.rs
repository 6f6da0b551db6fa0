// SPDX-License-Identifier: GPL-2.0

//! What is wrong with the answers, where nothing was lost and nothing hung: a device that refuses
//! everything is not tested.

use std::collections::BTreeMap;

use crate::abi::Abi;
use crate::worker::{Outcomes, ANY_FILE, DONE};

/// With as many calls of all commands together, each must have succeeded.
pub const ENOUGH_CALLS: u64 = 1000;

/// With as many calls of a command it must have. Of block I/O, which does least often, one in seven
/// does.
pub const ENOUGH: u64 = 100;

/// What there is in the machine.
#[derive(Debug, Clone, Copy)]
pub struct Equipment {
    /// Disks to do block I/O to.
    pub disks: bool,
    /// It was made for the test, with all that the test needs.
    pub made: bool,
}

impl Equipment {
    /// Whether a command can succeed.
    fn suffices(&self, command: &str) -> bool {
        command != "bio" || self.disks
    }
}

/// All that is wrong, a line each.
pub fn findings(
    abi: &Abi,
    equipment: Equipment,
    calls: u64,
    outcomes: &BTreeMap<String, Outcomes>,
) -> Vec<String> {
    let mut findings = Vec::new();

    if equipment.made && !equipment.disks {
        findings.push(
            "P2PDMA_TOPOLOGY is set, but P2PDMA_SCRATCH names no disks: no block I/O was done"
                .to_owned(),
        );
    }
    for (command, outcomes) in outcomes {
        let all: u64 = outcomes.values().sum();
        let done = outcomes.get(DONE).copied().unwrap_or_default();

        // Not what cannot succeed: bad addresses.
        if abi.command(command).is_some()
            && equipment.suffices(command)
            && calls >= ENOUGH_CALLS
            && all >= ENOUGH
            && done == 0
        {
            findings.push(format!("{command}: called {all} times, never done"));
        }
        // Other files have errors of their own.
        if command == ANY_FILE {
            continue;
        }
        for (outcome, number) in outcomes {
            if outcome != DONE && !abi.errors.contains(outcome) {
                findings.push(format!(
                    "{command}: {outcome}, {number} times, which the header does not list"
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::HEADER;

    const ALL: Equipment = Equipment {
        disks: true,
        made: true,
    };

    fn judge(equipment: Equipment, calls: u64, rows: &[(&str, &str, u64)]) -> Vec<String> {
        let abi = Abi::parse(HEADER).expect("the header");
        let mut outcomes: BTreeMap<String, Outcomes> = BTreeMap::new();

        for (command, outcome, number) in rows {
            outcomes
                .entry((*command).to_owned())
                .or_default()
                .insert((*outcome).to_owned(), *number);
        }
        findings(&abi, equipment, calls, &outcomes)
    }

    #[test]
    fn what_is_refused_now_and_then_is_fine() {
        let rows = [
            ("pin", "ok", 1),
            ("pin", "EINVAL", 999),
            ("bio", "ok", 400),
            ("close", "ok", 3),
        ];

        assert!(judge(ALL, 5000, &rows).is_empty());
    }

    #[test]
    fn never_done_is_a_finding() {
        assert_eq!(
            judge(ALL, 5000, &[("bio", "EINVAL", 400), ("bio", "EBADF", 200)]),
            ["bio: called 600 times, never done"]
        );
        // Exactly as often as it takes, and less.
        assert_eq!(judge(ALL, 1000, &[("pin", "EFAULT", 100)]).len(), 1);
        assert!(judge(ALL, 1000, &[("pin", "EFAULT", 99)]).is_empty());
        assert!(judge(ALL, 999, &[("pin", "EFAULT", 100)]).is_empty());
    }

    #[test]
    fn what_cannot_be_done_is_fine() {
        let rows = [("(bad address)", "EFAULT", 600), (ANY_FILE, "ENOTTY", 600)];

        assert!(judge(ALL, 5000, &rows).is_empty());
    }

    #[test]
    fn block_io_needs_disks() {
        let bio = [("bio", "ENOTBLK", 600)];
        let without = |made| Equipment { disks: false, made };

        assert!(judge(without(false), 5000, &bio).is_empty());
        // Whatever is called.
        for rows in [&bio[..], &[]] {
            let found = judge(without(true), 5000, rows);

            assert_eq!(found.len(), 1);
            assert!(found[0].starts_with("P2PDMA_TOPOLOGY"), "{found:?}");
        }
        // The rest does not.
        assert_eq!(
            judge(without(false), 5000, &[("map", "ENOTBLK", 600)]),
            ["map: called 600 times, never done"]
        );
    }

    #[test]
    fn errors_that_are_not_listed_are_findings() {
        let rows = [("pin", "ok", 1), ("pin", "errno 5", 2), ("pin", "EIO", 3)];

        assert_eq!(
            judge(ALL, 6, &rows),
            [
                "pin: EIO, 3 times, which the header does not list",
                "pin: errno 5, 2 times, which the header does not list"
            ]
        );
        assert_eq!(judge(ALL, 1, &[("(bad address)", "errno 5", 1)]).len(), 1);
        assert!(judge(ALL, 1, &[(ANY_FILE, "errno 5", 1)]).is_empty());
    }
}
