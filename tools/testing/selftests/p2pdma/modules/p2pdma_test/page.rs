// SPDX-License-Identifier: GPL-2.0

//! Facts about pages, as the ABI has them.

use crate::abi;
use kernel::{
    page::BorrowedPage,
    pci,
    sync::aref::ARef, //
};
use p2pdma::{
    page::PageExt,
    provider::PageOwner, //
};

/// Collects facts about pages, most of which come from the same provider as the one before.
#[derive(Default)]
pub(crate) struct Facts {
    last: Option<ARef<pci::Device>>,
}

impl Facts {
    /// What there is to say about a page that is held.
    pub(crate) fn of(&mut self, page: &BorrowedPage<'_>) -> abi::p2pdma_test_page {
        let location = page.location();

        if !self.last.as_ref().is_some_and(|dev| page.is_of(dev)) {
            self.last = page.provider();
        }

        abi::p2pdma_test_page {
            provider: self
                .last
                .as_ref()
                .map_or(abi::NO_FUNCTION, |dev| abi::function(dev)),
            phys: page.phys(),
            offset: location.map_or(0, |location| location.offset),
            before: abi::P2PDMA_TEST_UNKNOWN,
            during: page.ref_count(),
            after: abi::P2PDMA_TEST_UNKNOWN,
            flags: if page.is_p2pdma() {
                abi::P2PDMA_TEST_PAGE_P2PDMA
            } else {
                0
            },
        }
    }
}
