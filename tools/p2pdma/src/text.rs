// SPDX-License-Identifier: GPL-2.0

//! How things look on a terminal.

use anstyle::AnsiColor;
pub use anstyle::Style;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// Nothing that is printed is wider than this, as far as the names allow it.
pub const WIDTH: usize = 80;

/// Headings.
pub const HEADING: Style = Style::new().bold();
/// What is as it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What is not, by decision of the kernel.
pub const REFUSED: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();

/// All of them: nothing else is printed that a terminal acts upon.
#[cfg(test)]
pub const STYLES: [Style; 4] = [HEADING, GOOD, REFUSED, BAD];

/// A text in a style.
pub fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// What could change a terminal instead of being printed on it, or the order of what is printed.
fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of others, such as the name that a device gives itself, safe to print: whatever is in it
/// for a terminal is replaced, but for the ends of lines and tabs.
pub fn printable(text: &str) -> String {
    text.replace(|c| is_active(c) && !matches!(c, '\n' | '\t'), "\u{fffd}")
}

/// The same of what is one line.
pub fn printable_line(text: &str) -> String {
    text.replace(is_active, "\u{fffd}")
}

/// At most so many characters of a text.
pub fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// A table without lines, two spaces between columns, indented by two.
pub fn table(header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> String {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header);
    }
    table.add_rows(rows);
    let last = table.column_count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        let left = if index == 0 { 2 } else { 0 };
        column.set_padding((left, if index == last { 0 } else { 2 }));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A text that goes on below its own beginning where it is too wide.
pub fn hanging(start: &str, text: &str) -> String {
    let indent = " ".repeat(textwrap::core::display_width(start));
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(start)
        .subsequent_indent(&indent)
        .break_words(false);
    textwrap::fill(text, options)
}

/// Several things in one line: `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens() {
        assert_eq!(shorten("root port", 9), "root port");
        assert_eq!(shorten("root port", 6), "root…");
        assert_eq!(shorten("ünïcödé", 4), "ünï…");
    }

    #[test]
    fn nothing_reaches_the_terminal() {
        assert_eq!(printable("a\tb\nünï"), "a\tb\nünï");
        assert_eq!(printable_line("a\tb\nünï"), "a\u{fffd}b\u{fffd}ünï");
        // a title, a carriage return, and the beginning of a sequence in one character
        for text in [
            "\x1b]0;title\x07",
            "good\rbad",
            "\u{9b}2J",
            "\u{202e}x",
            "\x7f",
        ] {
            for safe in [printable(text), printable_line(text)] {
                assert!(
                    safe.contains('\u{fffd}') && !safe.contains(is_active),
                    "{safe:?}"
                );
            }
        }
    }

    #[test]
    fn lines_columns_up() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned(), "x".to_owned()],
            vec!["bcd".to_owned(), "23".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["name", "n", "what"], rows, &[1]),
            "  name   n  what\n  a      1  x\n  bcd   23"
        );
    }

    #[test]
    fn hangs() {
        assert_eq!(hanging("  start ", "short"), "  start short");
        let text = "word ".repeat(30);
        let wrapped = hanging(&styled(BAD, "bad: "), text.trim_end());
        let lines: Vec<_> = wrapped.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("     word"), "{wrapped}");
        assert!(lines
            .iter()
            .all(|line| textwrap::core::display_width(line) <= WIDTH));
    }

    #[test]
    fn lists() {
        let list_of =
            |items: &[&str]| list(&items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(list_of(&[]), "");
        assert_eq!(list_of(&["a"]), "a");
        assert_eq!(list_of(&["a", "b", "c"]), "a, b and c");
    }
}
