// SPDX-License-Identifier: GPL-2.0

//! Data on standard output, progress on standard error, neither in the other's way.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// The terminal, or what stands in for it.
#[derive(Debug, Clone)]
pub struct Ui {
    bar: ProgressBar,
    /// What each guest does.
    guests: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Ui {
    /// Shows progress if standard error is a terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        Self {
            bar,
            guests: Arc::default(),
        }
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
        self.bar.suspend(|| {
            // That nobody listens is no reason to stop.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    /// Shows what is going on, where somebody is watching.
    pub fn progress(&self, message: String) {
        self.bar.enable_steady_tick(Duration::from_millis(120));
        self.bar.set_message(message);
    }

    /// Shows what one of several guests does; nothing, if it is over.
    pub fn progress_of(&self, guest: &str, message: Option<&str>) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        match message {
            Some(message) => guests.insert(guest.into(), format!("{guest}: {message}")),
            None => guests.remove(guest),
        };
        let all: Vec<&str> = guests.values().map(String::as_str).collect();
        self.progress(all.join(" | "));
    }

    /// Takes the progress away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
