// SPDX-License-Identifier: GPL-2.0

//! Rust as the kernel's tree has it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use regex::Regex;

/// Documentation with what it includes from other files in it.
pub fn inlined(text: &str, file: &Path) -> Result<String> {
    let include = Regex::new(r#"^#!\[doc = include_str!\("(.*)"\)\]$"#)?;
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let Some(found) = include.captures(line.trim_end()) else {
            out.push_str(line);
            continue;
        };
        let other = file.with_file_name(&found[1]);
        let example = fs::read_to_string(&other)
            .with_context(|| format!("cannot read {}", other.display()))?;
        for line in example.lines().filter(|line| !line.contains("SPDX")) {
            out.push_str(format!("//! {line}").trim_end());
            out.push('\n');
        }
    }
    Ok(out)
}

/// Columns that a line has at most.
const COLUMNS: usize = 100;

/// Comments without lines that are too long, as paths have grown: what does not fit goes in front
/// of the next line of the same paragraph.
pub fn narrowed(text: &str) -> Result<String> {
    // In an example there are comments within the comment.
    let comment = Regex::new(r"^(\s*//[/!]? (?:\s*// )?)(\s*(?:- )?)(\S.*)$")?;
    let mut out = String::new();
    // What did not fit, and the beginning of lines that it can go on in.
    let mut rest: Option<(String, String)> = None;
    for line in text.lines() {
        let mut line = line.to_owned();
        if let Some((begins, words)) = rest.take() {
            match line.strip_prefix(&begins) {
                Some(more) if !more.is_empty() && !more.starts_with([' ', '-', '#', '`']) => {
                    line = format!("{begins}{words} {more}");
                }
                _ => {
                    out.push_str(&format!("{begins}{words}\n"));
                }
            }
        }
        if line.chars().count() > COLUMNS {
            if let Some(found) = comment.captures(&line) {
                let begins = format!("{}{}", &found[1], " ".repeat(found[2].len()));
                let fits = line
                    .char_indices()
                    .take(COLUMNS + 1)
                    .filter(|&(at, c)| c == ' ' && at > begins.len())
                    .last();
                if let Some((at, _)) = fits {
                    rest = Some((begins, line.split_off(at).trim().to_owned()));
                }
            }
        }
        out.push_str(&line);
        out.push('\n');
    }
    if let Some((begins, words)) = rest {
        out.push_str(&format!("{begins}{words}\n"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples() {
        let dir = tempfile::tempdir().expect("as in the test");
        let file = dir.path().join("lib.rs");
        fs::write(
            dir.path().join("example.rs"),
            "// SPDX-License-Identifier: GPL-2.0\nuse a;\n\nfn b() {}\n",
        )
        .expect("as in the test");
        let text = "//! ```\n#![doc = include_str!(\"example.rs\")]\n//! ```\n";
        assert_eq!(
            inlined(text, &file).expect("as in the test"),
            "//! ```\n//! use a;\n//!\n//! fn b() {}\n//! ```\n"
        );
        assert!(inlined("#![doc = include_str!(\"none.rs\")]\n", &file).is_err());
    }

    #[test]
    fn long_lines() {
        let narrow = |text: &str| narrowed(text).expect("as in the test");
        let long = "x".repeat(88);
        assert_eq!(
            narrow(&format!("    /// {long} two three\n    /// four\n")),
            format!("    /// {long} two\n    /// three four\n")
        );
        // Nor out of a comment within an example.
        assert_eq!(
            narrow(&format!(
                "//!     // {long} two\n//!     // three\n//!     f();\n"
            )),
            format!("//!     // {long}\n//!     // two three\n//!     f();\n")
        );
        // Not into the next item, the next paragraph, nor code.
        assert_eq!(
            narrow(&format!("/// - {long} two three\n/// - b\n")),
            format!("/// - {long} two\n///   three\n/// - b\n")
        );
        assert_eq!(
            narrow(&format!("// {long} two three\nf();\n")),
            format!("// {long} two\n// three\nf();\n")
        );
        assert_eq!(
            narrow(&format!("//! {long} three four\n")),
            format!("//! {long} three\n//! four\n")
        );
        let code = format!("let {long} = 1 + 2 + 3;\n");
        assert_eq!(narrow(&code), code);
    }
}
