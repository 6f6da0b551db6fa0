// SPDX-License-Identifier: GPL-2.0

//! The orchestrator's side: who pairs providers with clients, by [distance] or by what the user
//! [chose](enable), and is [told](watch) when a provider goes.

pub mod distance;
pub mod enable;
pub mod watch;
