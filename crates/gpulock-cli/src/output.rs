//! Everything that gpulock prints. Data goes to standard output, everything else to
//! standard error, so that pipes carry only data.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::io::{IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exit::Failure;

/// Prints data.
pub(crate) fn data(text: &str) {
    // A reader that has gone away (`gpulock history | head`) wants no more.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints data as JSON.
pub(crate) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => data(&text),
        Err(error) => {
            problem("error", &format!("the answer cannot be written as JSON: {error}"), None)
        }
    }
}

/// Says why it did not work, and what to do.
pub(crate) fn failure(failure: &Failure) {
    problem("error", &failure.message, failure.hint.as_deref());
}

/// Says something the user should know, with what to do about it after `hint: `.
pub(crate) fn warning(message: &str) {
    match message.split_once("\nhint: ") {
        Some((message, hint)) => problem("warning", message, Some(hint)),
        None => problem("warning", message, None),
    }
}

/// Says what gpulock does, in a line of its own.
pub(crate) fn notice(message: &str) {
    eprintln!("gpulock: {}", visible(message));
}

fn problem(kind: &str, message: &str, hint: Option<&str>) {
    let (bold, plain) = match (kind, use_color()) {
        (_, false) => ("", ""),
        ("error", true) => ("\x1b[1;31m", "\x1b[0m"),
        (_, true) => ("\x1b[1;33m", "\x1b[0m"),
    };
    eprintln!("{bold}{kind}:{plain} {}", visible(message));
    if let Some(hint) = hint {
        eprintln!("\nhint: {}", visible(hint));
    }
}

/// One line that is rewritten in place on a terminal, and printed once elsewhere.
#[derive(Debug, Default)]
pub(crate) struct StatusLine {
    shown: Option<String>,
}

impl StatusLine {
    /// Shows `text`. Elsewhere than on a terminal only the first one is shown, and then
    /// those that are news by themselves.
    pub(crate) fn show(&mut self, text: &str, is_news: bool) {
        let text = visible(text);
        let mut stderr = std::io::stderr().lock();
        if stderr.is_terminal() {
            let columns =
                rustix::termios::tcgetwinsize(&stderr).map_or(80, |size| size.ws_col.max(20));
            let cut: String = text.chars().take(usize::from(columns) - 1).collect();
            // A closed standard error: there is nobody to tell.
            let _ = write!(stderr, "\r\x1b[K{cut}");
            let _ = stderr.flush();
        } else if self.shown.is_none() || is_news {
            let _ = writeln!(stderr, "{text}");
        }
        self.shown = Some(text);
    }

    /// Ends the line, so that what follows starts on a fresh one.
    pub(crate) fn end(&mut self) {
        if self.shown.take().is_some() && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

/// Clears the screen for the next picture of `--watch`; elsewhere than on a terminal the
/// pictures follow one another.
pub(crate) fn next_picture() {
    if std::io::stdout().is_terminal() {
        print!("\x1b[H\x1b[2J");
    }
}

/// Whether somebody still reads standard output: the other end of a pipe may be closed.
pub(crate) fn has_reader() -> bool {
    let stdout = std::io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    // Without an answer there is no reason to stop.
    let _ = poll(&mut watched, Some(&Timespec::default()));
    !watched[0].revents().contains(PollFlags::ERR)
}

fn use_color() -> bool {
    let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !asked_not_to && std::io::stderr().is_terminal()
}

/// The text with everything that could move the cursor, break the line or turn the direction
/// of writing made visible: other people's names come here.
pub(crate) fn visible(text: &str) -> String {
    let deceives = |c: char| match c {
        '\n' | '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => c.is_control(),
    };
    text.chars().map(|c| if deceives(c) { '\u{fffd}' } else { c }).collect()
}

/// A table whose columns are as wide as they must be.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(headings[column].len())
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", visible(cell)));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}
