// SPDX-License-Identifier: GPL-2.0

//! Peer-to-peer memory is not pinned for a long term.
//~ E0599

use p2pdma::user::pin::{
    Access,
    Flags,
    LongTerm, //
};

pub fn misuse() -> Flags<LongTerm> {
    Flags::long_term(Access::Write).allow_p2pdma()
}
