// SPDX-License-Identifier: GPL-2.0

//! The version stands in one place, and the changelog begins with it.

use std::{
    fs,
    path::Path, //
};

/// The titles of an RST document that are underlined by `=` alone.
fn sections(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(3)
        .filter(|three| {
            let underlined = !three[2].is_empty() && three[2].bytes().all(|byte| byte == b'=');
            three[0].is_empty() && !three[1].is_empty() && underlined
        })
        .map(|three| three[1])
        .collect()
}

#[test]
fn the_newest_release_is_the_version() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Documentation/p2pdma/changelog.rst");
    let text = fs::read_to_string(file).expect("read the changelog");
    assert_eq!(
        sections(&text).first().copied(),
        Some(env!("CARGO_PKG_VERSION")),
        "the newest release in the changelog, and the version in tools/Cargo.toml"
    );
}
