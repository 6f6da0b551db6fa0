// SPDX-License-Identifier: GPL-2.0

//! Prints what was measured, for a person.

use std::io::{self, Write};

use super::{Case, Engine, Evidence, Figures, Line, Outcome, Path, Report, Took};
use crate::size::Size;
use crate::text::{hanging, styled, Style, BAD, GOOD, HEADING, REFUSED};

impl Took {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Took::BusAddress => "bus address",
            Took::HostBridge => "host bridge",
            Took::HostMemory => "host memory",
            Took::Unknown => "not seen",
        }
    }
}

/// What a group of cases has in common, all but the size.
pub fn heading(case: &Case) -> (String, String) {
    let disks: Vec<_> = [&case.source, &case.target]
        .into_iter()
        .flatten()
        .map(|disk| format!("{} at {}", disk.name, disk.function))
        .collect();
    let pair = format!(
        "{} ({}) - {}",
        case.provider,
        case.provider_driver.as_deref().unwrap_or("no driver"),
        disks.join(" to ")
    );
    let how = match case.engine {
        Engine::Sync => "one at a time".to_owned(),
        Engine::IoUring => format!("io_uring, {} at once", case.depth),
    };
    (pair, format!("{}, {how}", case.operation.name()))
}

/// Throughput in MiB for each second.
pub fn mebibytes(figures: &Figures) -> f64 {
    figures.bytes_per_second / f64::from(1 << 20)
}

/// Nanoseconds as microseconds.
pub fn micro(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

fn measured(figures: &Figures, evidence: &Evidence) -> String {
    format!(
        "{:>8.1}  {:>8.0}  {:>8.0}  {:>8.0}  {:>7.3}  {}",
        mebibytes(figures),
        figures.iops,
        micro(figures.latency.p50),
        micro(figures.latency.p99),
        figures.cpu_seconds_per_gib,
        evidence.took.name()
    )
}

fn line(size: &str, line: &Line) -> String {
    let start = format!("  {size:>8}  {:<6}  ", line.path.name());
    let said = |style: Style, what: &str, why: &str| {
        hanging(&format!("{start}{}", styled(style, what)), why)
    };
    match &line.outcome {
        Outcome::Measured(figures) => start + &measured(figures, &line.evidence),
        Outcome::Refused { why } => said(REFUSED, "refused: ", why),
        Outcome::Wrong { why } => said(BAD, "DATA WRONG: ", why),
        Outcome::Failed { why } => said(BAD, "failed: ", why),
    }
}

/// How P2P compares, by the throughput.
fn ratios(case: &Case) -> Option<String> {
    let of = |path| {
        let line = case.lines.iter().find(|line| line.path == path);
        line.and_then(Line::figures).map(mebibytes)
    };
    let p2p = of(Path::P2p)?;
    let others = [Path::Host, Path::Bounce].into_iter().filter_map(|path| {
        let ratio = p2p / of(path)?;
        Some(format!("{ratio:.2} times {}", path.name()))
    });
    let others: Vec<_> = others.collect();
    (!others.is_empty()).then(|| format!("{:12}P2P is {}", "", others.join(", ")))
}

/// Prints cases as they are done.
pub struct Printer<W> {
    out: W,
    last: Option<(String, String)>,
}

impl<W: Write> Printer<W> {
    /// One that has printed nothing.
    pub fn new(out: W) -> Self {
        Printer { out, last: None }
    }

    /// Prints a case, below what it has in common with the last.
    pub fn case(&mut self, case: &Case) -> io::Result<()> {
        let common = heading(case);
        if self.last.as_ref() != Some(&common) {
            if self.last.is_some() {
                writeln!(self.out)?;
            }
            let (pair, how) = &common;
            let start = styled(HEADING, pair) + ": ";
            writeln!(self.out, "{}", hanging(&start, &case.route))?;
            writeln!(self.out, "{how}")?;
            writeln!(
                self.out,
                "      size  path       MiB/s      IOPS    p50 us    p99 us  CPU/GiB  took"
            )?;
        }
        self.last = Some(common);
        let mut size = Size(case.size).to_string();
        for one in &case.lines {
            writeln!(self.out, "{}", line(&size, one))?;
            size.clear();
        }
        if let Some(ratios) = ratios(case) {
            writeln!(self.out, "{ratios}")?;
        }
        for contradiction in &case.contradictions {
            writeln!(self.out, "{}", hanging(&styled(BAD, "  ! "), contradiction))?;
        }
        self.out.flush()
    }

    /// Prints what there is to say of all.
    pub fn conclude(&mut self, report: &Report) -> io::Result<()> {
        let lines = || report.cases.iter().flat_map(|case| &case.lines);
        let figures = || lines().filter_map(Line::figures);
        writeln!(self.out)?;
        for why in &report.without {
            writeln!(self.out, "{}", hanging("Paths were not seen: ", why))?;
        }
        if figures().any(|figures| !figures.position_proven) {
            let text = "blank media, where data in a wrong place look right: --scratch proves it";
            writeln!(self.out, "{}", hanging("Some read ", text))?;
        }
        let ios: u64 = figures().map(|figures| figures.ios).sum();
        let verified: u64 = figures().map(|figures| figures.verified).sum();
        let (all, good) = (lines().count(), figures().count());
        let verdict = match report.is_good() {
            true => styled(GOOD, "all is well"),
            false => styled(BAD, "not all is well"),
        };
        writeln!(
            self.out,
            "{good} of {all} measured, {verdict}: {ios} transfers, {} of them verified",
            Size(verified)
        )
    }
}

/// Prints a report as it was printed while it was made.
pub fn text(report: &Report, out: impl Write) -> io::Result<()> {
    let mut printer = Printer::new(out);
    for case in &report.cases {
        printer.case(case)?;
    }
    printer.conclude(report)
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    fn printed(report: &Report) -> String {
        let mut out = Vec::new();
        text(report, anstream::StripStream::new(&mut out)).expect("output");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn prints_a_table() {
        let expected = "\
0000:05:00.0 (p2pdma_provider) - nvme1n1 at 0000:04:00.0: direct, below
                                                          0000:01:00.0
read, io_uring, 8 at once
      size  path       MiB/s      IOPS    p50 us    p99 us  CPU/GiB  took
     4 KiB  P2P         40.0     10240        80       120    2.000  bus address
            host        20.0      5120        80       120    2.000  host memory
            bounce      10.0      2560        80       120    2.000  host memory
            P2P is 2.00 times host, 4.00 times bounce
    64 KiB  P2P         40.0       640        80       120    2.000  bus address
            host        20.0       320        80       120    2.000  host memory
            bounce      10.0       160        80       120    2.000  host memory
            P2P is 2.00 times host, 4.00 times bounce

6 of 6 measured, all is well: 600 transfers, 24 KiB of them verified
";
        assert_eq!(printed(&fake::report()), expected);
    }

    #[test]
    fn says_what_is_wrong() {
        let mut report = fake::report();
        let case = &mut report.cases[0];
        case.lines[0].outcome = Outcome::Refused { why: "ACS".into() };
        case.lines[1].outcome = Outcome::Wrong {
            why: "a bit".into(),
        };
        case.lines[2].outcome = Outcome::Failed { why: "gone".into() };
        case.contradictions.push("P2P: far off".into());
        report.without.push("tracefs is not there".into());
        let text = printed(&report);
        for said in [
            "P2P     refused: ACS",
            "host    DATA WRONG: a bit",
            "bounce  failed: gone",
            "  ! P2P: far off",
            "Paths were not seen: tracefs is not there",
            "3 of 6 measured, not all is well",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!report.is_good());
    }
}
