//! The reference of all keys, made from the table.

use std::fmt::Write;

use super::Config;
use super::key::{Key, variable};

/// All keys in Markdown: a section for each group, and in it a row for each key with its
/// environment variable, default and meaning.
pub fn reference() -> String {
    let mut config = Config::default();
    let mut text = String::from("# Configuration\n");
    let mut current = None;
    for key in config.keys() {
        let group = key.path.rsplit_once('.').map_or("", |(group, _)| group);
        if current.as_deref() != Some(group) {
            text.push_str(&heading(group, key.group));
            current = Some(group.to_owned());
        }
        text.push_str(&row(&key));
    }
    text
}

fn heading(group: &str, about: &str) -> String {
    let title = match group {
        "" => "Top level".to_owned(),
        group => format!("`{group}`"),
    };
    format!(
        "\n## {title}\n\n{about}\n\n\
         | Key | Environment variable | Default | Meaning |\n\
         |---|---|---|---|\n"
    )
}

fn row(key: &Key<'_>) -> String {
    let name = key.path.rsplit('.').next().unwrap_or_default();
    let variable = match key.slot.only_in_file() {
        true => "only in the file".to_owned(),
        false => format!("`{}`", variable(&key.path)),
    };
    let default = match key.slot.show().as_str() {
        "" => "empty".to_owned(),
        "not set" => "not set".to_owned(),
        value => format!("`{value}`"),
    };
    let unit = match key.slot.unit() {
        "" => String::new(),
        unit => format!(" A bare number is in {unit}."),
    };
    let meaning = key.meaning.replace('|', "\\|");
    let mut row = String::new();
    // Writing to a `String` cannot fail.
    let _ = writeln!(row, "| `{name}` | {variable} | {default} | {meaning}{unit} |");
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_row_with_a_meaning() {
        let text = reference();
        let rows = text.lines().filter(|line| line.starts_with("| `")).count();
        let mut config = Config::default();
        assert_eq!(rows, config.keys().len());
        for key in config.keys() {
            assert!(text.contains(&row(&key)), "{}", key.path);
            assert!(key.meaning.ends_with('.') && !key.meaning.contains('\n'), "{}", key.meaning);
        }
    }

    #[test]
    fn rows_name_variable_default_and_meaning() {
        let text = reference();
        for line in [
            "## `gpu_lock_monitor.timeout_levels`",
            "| `poll_interval` | `GPULOCK_GPU_LOCK__POLL_INTERVAL` | `2s` | First pause between two \
             looks at the queue, in case a wake-up was lost. A bare number is in seconds. |",
            "| `alerts` | only in the file | not set | Who is told about trouble, and how: see the \
             guide to alerts. |",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
