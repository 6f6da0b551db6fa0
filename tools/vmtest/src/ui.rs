// SPDX-License-Identifier: GPL-2.0

//! Data on standard output, progress on standard error, neither in the other's way.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// The terminal, or what stands in for it.
#[derive(Debug, Clone)]
pub struct Ui {
    bar: ProgressBar,
}

impl Ui {
    /// Shows progress if standard error is a terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Prints a line on standard output.
    pub fn line(&self, line: &str) -> Result<()> {
        self.bar
            .suspend(|| {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush())
            })
            .context("standard output cannot be written")
    }

    /// Prints a line on standard error.
    pub fn note(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Shows what is going on, where somebody is watching.
    pub fn progress(&self, message: String) {
        self.bar.enable_steady_tick(Duration::from_millis(120));
        self.bar.set_message(message);
    }

    /// Takes the progress away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
