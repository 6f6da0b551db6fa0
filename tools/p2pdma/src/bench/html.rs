// SPDX-License-Identifier: GPL-2.0

//! Draws what was measured: a report in HTML, with the plots as SVG inside of it.

use std::fmt::Write as _;

use anyhow::{anyhow, Result};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::print::{heading, mebibytes, micro};
use super::{Case, Figures, Outcome, Path, Report};
use crate::size::Size;

/// Width and height of a plot.
const PLOT: (u32, u32) = (480, 300);
/// Height of the line above two plots.
const TITLE: u32 = 30;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn colour(path: Path) -> RGBColor {
    match path {
        Path::P2p => RGBColor(0x1b, 0x9e, 0x77),
        Path::Host => RGBColor(0x75, 0x70, 0xb3),
        Path::Bounce => RGBColor(0xd9, 0x5f, 0x02),
    }
}

/// Cases that differ by the size only, in their order.
fn groups(report: &Report) -> Vec<((String, String), Vec<&Case>)> {
    let mut groups: Vec<((String, String), Vec<&Case>)> = Vec::new();
    for case in &report.cases {
        let common = heading(case);
        match groups.last_mut() {
            Some((last, cases)) if *last == common => cases.push(case),
            _ => groups.push((common, vec![case])),
        }
    }
    groups
}

/// Measured lines: the number of the case, that of the line, and the rest.
fn measured<'a>(cases: &[&'a Case]) -> Vec<(usize, usize, Path, &'a Figures)> {
    let mut all = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        for (index, line) in case.lines.iter().enumerate() {
            all.extend(
                line.figures()
                    .map(|figures| (number, index, line.path, figures)),
            );
        }
    }
    all
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

/// Left and right of a line in the room of its case.
fn room(number: usize, index: usize, lines: usize) -> (f64, f64) {
    let width = 0.8 / lines.max(1) as f64;
    let left = number as f64 + 0.1 + width * index as f64;
    (left + width * 0.05, left + width * 0.95)
}

/// Names the sizes below an axis.
fn name_sizes<Y: plotters::coord::ranged1d::Ranged<ValueType = f64>>(
    plot: &DrawingArea<SVGBackend<'_>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
    cases: &[&Case],
    bottom: f64,
) -> Result<()> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let style = TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Center, VPos::Top));
    for (number, case) in cases.iter().enumerate() {
        let name = Size(case.size).to_string();
        let at = EmptyElement::at((number as f64 + 0.5, bottom));
        plot.draw(&(at + Text::new(name, (0, 8), style.clone())))
            .map_err(failed)?;
    }
    Ok(())
}

fn throughput(area: &Area<'_>, cases: &[&Case]) -> Result<()> {
    let all = measured(cases);
    let most = all.iter().flat_map(|(.., figures)| &figures.rounds);
    let most = most.fold(0.0, |most: f64, one| most.max(*one / f64::from(1 << 20)));
    let count = cases.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(
            "MiB/s, with the slowest and the fastest round",
            ("sans-serif", 14),
        )
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..count, 0.0..(most * 1.1).max(1.0))
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_label_style(("sans-serif", 12))
        .draw()
        .map_err(failed)?;
    name_sizes(chart.plotting_area(), cases, 0.0)?;
    for path in [Path::P2p, Path::Host, Path::Bounce] {
        let lines = all.iter().filter(|(_, _, of, _)| *of == path);
        let bars = lines.clone().map(|(number, index, _, figures)| {
            let (left, right) = room(*number, *index, cases[*number].lines.len());
            let corners = [(left, 0.0), (right, mebibytes(figures))];
            Rectangle::new(corners, colour(path).filled())
        });
        let series = chart.draw_series(bars).map_err(failed)?;
        if lines.clone().count() > 0 {
            series.label(path.name()).legend(move |(x, y)| {
                Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour(path).filled())
            });
        }
        let spread = lines.map(|(number, index, _, figures)| {
            let (left, right) = room(*number, *index, cases[*number].lines.len());
            let x = f64::midpoint(left, right);
            let rounds = figures.rounds.iter().map(|one| one / f64::from(1 << 20));
            let least = rounds.clone().fold(f64::INFINITY, f64::min);
            let most = rounds.fold(0.0, f64::max);
            PathElement::new([(x, least), (x, most)], BLACK.stroke_width(1))
        });
        chart.draw_series(spread).map_err(failed)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 13))
        .draw()
        .map_err(failed)
}

fn latency(area: &Area<'_>, cases: &[&Case]) -> Result<()> {
    let all = measured(cases);
    let of = |figures: &Figures| {
        let latency = figures.latency;
        [latency.p50, latency.p90, latency.p99, latency.p999].map(|one| micro(one).max(0.1))
    };
    let values: Vec<f64> = all.iter().flat_map(|(.., figures)| of(figures)).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(1.0, f64::max);
    let bottom = if least.is_finite() { least / 2.0 } else { 0.1 };
    let mut chart = ChartBuilder::on(area)
        .caption("Latency in us: p50, p90, p99, p99.9", ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..cases.len() as f64, (bottom..most * 2.0).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_label_style(("sans-serif", 12))
        .y_label_formatter(&|value| match value {
            value if *value < 10.0 => format!("{value:.1}"),
            value => format!("{value:.0}"),
        })
        .draw()
        .map_err(failed)?;
    name_sizes(chart.plotting_area(), cases, bottom)?;
    for (number, index, path, figures) in all {
        let (left, right) = room(number, index, cases[number].lines.len());
        let x = f64::midpoint(left, right);
        let points = of(figures).map(|value| (x, value));
        let line = PathElement::new(points, colour(path).stroke_width(2));
        chart.draw_series([line]).map_err(failed)?;
        let mark = |(number, point): (i32, &(f64, f64))| {
            Circle::new(*point, 5 - number, colour(path).filled())
        };
        chart
            .draw_series((0..).zip(&points).map(mark))
            .map_err(failed)?;
    }
    Ok(())
}

/// Two plots beside each other.
fn plots(area: &Area<'_>, cases: &[&Case]) -> Result<()> {
    let (left, right) = area.split_horizontally(PLOT.0);
    throughput(&left, cases)?;
    latency(&right, cases)
}

fn drawing(height: u32, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (2 * PLOT.0, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// All plots in one picture.
///
/// # Errors
///
/// What cannot be drawn.
pub fn picture(report: &Report) -> Result<String> {
    let groups = groups(report);
    let height = (TITLE + PLOT.1) * u32::try_from(groups.len().max(1))?;
    let svg = drawing(height, |area| {
        for (index, ((pair, how), cases)) in (0..).zip(&groups) {
            let (_, rest) = area.split_vertically((TITLE + PLOT.1) * index);
            let (title, rest) = rest.split_vertically(TITLE);
            let style = ("sans-serif", 15).into_font().style(FontStyle::Bold);
            title
                .draw(&Text::new(format!("{pair}: {how}"), (12, 12), style))
                .map_err(failed)?;
            let (here, _) = rest.split_vertically(PLOT.1);
            plots(&here, cases)?;
        }
        Ok(())
    })?;
    Ok(format!("<!-- SPDX-License-Identifier: GPL-2.0 -->\n{svg}"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const STYLE: &str = "\
body { font-family: sans-serif; max-width: 62em; margin: 1em auto; padding: 0 1em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 0.2em 0.6em; text-align: right; border-bottom: 1px solid #ddd }
th { border-bottom: 1px solid #000 }
td.text, th.text { text-align: left }
.bad { color: #b00; font-weight: bold }";

const HEADER: &str = "\
<table><tr><th>size<th class=\"text\">path<th>MiB/s<th>IOPS<th>p50 us<th>p90 us<th>p99 us\
<th>p99.9 us<th>max us<th>CPU s/GiB<th class=\"text\">took<th>verified</tr>\n";

fn rows(html: &mut String, case: &Case) -> std::fmt::Result {
    for line in &case.lines {
        let (size, path) = (Size(case.size), line.path.name());
        write!(html, "<tr><td>{size}<td class=\"text\">{path}")?;
        let why = match &line.outcome {
            Outcome::Measured(figures) => {
                let latency = &figures.latency;
                write!(html, "<td>{:.1}<td>{:.0}", mebibytes(figures), figures.iops)?;
                let percentiles = [latency.p50, latency.p90, latency.p99, latency.p999];
                for value in percentiles.into_iter().chain([latency.max]) {
                    write!(html, "<td>{:.1}", micro(value))?;
                }
                writeln!(
                    html,
                    "<td>{:.3}<td class=\"text\">{}<td>{}</tr>",
                    figures.cpu_seconds_per_gib,
                    line.evidence.took.name(),
                    Size(figures.verified)
                )?;
                continue;
            }
            Outcome::Refused { why } => format!("refused: {why}"),
            Outcome::Wrong { why } => format!("DATA WRONG: {why}"),
            Outcome::Failed { why } => format!("failed: {why}"),
        };
        let why = escape(&why);
        writeln!(html, "<td class=\"text bad\" colspan=\"10\">{why}</tr>")?;
    }
    for contradiction in &case.contradictions {
        let text = escape(contradiction);
        writeln!(
            html,
            "<tr><td class=\"text bad\" colspan=\"12\">{text}</tr>"
        )?;
    }
    Ok(())
}

/// The report.
///
/// # Errors
///
/// What cannot be drawn.
pub fn report(report: &Report) -> Result<String> {
    let mut html = String::new();
    writeln!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <title>p2pdma bench</title>\n<style>\n{STYLE}\n</style></head><body>\n\
         <h1>p2pdma bench</h1>"
    )?;
    writeln!(
        html,
        "<p>Linux {}; {} rounds in which the paths took turns; {} of each disk; seed {:#x}.",
        escape(report.kernel.as_deref().unwrap_or("of an unknown version")),
        report.rounds,
        Size(report.span),
        report.seed
    )?;
    for why in &report.without {
        writeln!(
            html,
            "<p class=\"bad\">Paths were not seen: {}",
            escape(why)
        )?;
    }
    for ((pair, how), cases) in groups(report) {
        let route = cases.first().map_or("", |case| case.route.as_str());
        writeln!(html, "<h2>{}: {}</h2>", escape(&pair), escape(&how))?;
        writeln!(html, "<p>{}", escape(route))?;
        html += &drawing(PLOT.1, |area| plots(area, &cases))?;
        html += HEADER;
        for case in cases {
            rows(&mut html, case)?;
        }
        html += "</table>\n";
    }
    html += "</body></html>\n";
    Ok(html)
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn draws_and_escapes() {
        let mut all = fake::report();
        all.kernel = Some("7.3<script>".into());
        let case = &mut all.cases[0];
        case.lines[1].outcome = Outcome::Failed {
            why: "a & b".into(),
        };
        let html = report(&all).expect("a report");
        assert_eq!(html.matches("<svg").count(), 1);
        assert!(html.contains("7.3&lt;script&gt;") && !html.contains("<script"));
        assert!(html.contains("failed: a &amp; b"));
        // five bars, three marks of a legend, and the frame of the legend
        let svg = picture(&all).expect("a picture");
        let fill = format!("#{:02X}{:02X}{:02X}", 0x1b, 0x9e, 0x77);
        assert!(svg.matches(&fill).count() >= 3, "{svg}");
        assert!(svg.contains("64 KiB"));
    }

    #[test]
    fn draws_nothing_at_all() {
        let mut all = fake::report();
        for case in &mut all.cases {
            for line in &mut case.lines {
                line.outcome = Outcome::Failed { why: "gone".into() };
            }
        }
        report(&all).expect("a report");
        all.cases.clear();
        report(&all).expect("a report");
        picture(&all).expect("a picture");
    }
}
