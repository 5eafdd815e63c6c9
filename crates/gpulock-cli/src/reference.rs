//! The reference pages of the command line and of the configuration, in Markdown, made from
//! the arguments, the table of keys and the catalogue of alerts, and the document of the API. The committed pages under `docs/reference` are
//! what these functions give; `tests/cli/reference.rs` compares them.

use std::fmt::Write;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::args::Cli;
use crate::daemon::openapi;
use gpulock::core::alert::{RULES, Rule, Source};

const ABOUT_COMMANDS: &str = "\
Made from the program's own help texts. Data goes to standard output; waiting lines, warnings and
errors go to standard error. See also [exit codes](exit-codes.md) and
[environment variables](environment.md).
";

const ABOUT_KEYS: &str = "\
Made from the program's own table of keys. A flag wins over an environment variable, a variable
over the file, the file over the default. The file is the first of these: `--config FILE`,
`$GPULOCK_CONFIG`, `./config.yml`, `/etc/gpulock/config.yml`. `gpulock config show` prints the
values in force and where each came from; `gpulock config check` names contradictions.

- A length of time is a number of seconds (`90`, `1.5`) or a text such as `90s`, `30m`, `1h30m`.
- `${NAME}` and `${NAME:default}` in the file are replaced from the environment; `$${` stands for
  `${`.
- In an environment variable the parts of a list stand with commas between them.
- Other top-level sections of the file are ignored. An unknown key inside one of the sections below
  is an error that names the nearest key.

`gpulock run`, the library and Python use `store`, `pool`, `gpus`, `gpu_lock`,
`gpu_lock_monitor.heartbeat`, `compat` and `critical_failure_log`. The other keys belong to
`gpulock serve`; everybody reads and checks them, except `alerts`.
";

const ABOUT_ALERTS: &str = "\
Made from the program's own catalogue: what `gpulock serve` watches for.
`gpulock alerts list` shows what fires. Programs may raise alerts under other names. How somebody is told
stands in [Alerts that reach people](../guides/alerts.md), and what to do about the larger ones step by step in
[Operate gpulock](../guides/operations.md#alerts).

Each chapter ends with the section of `config.yml` that sets the rule to what it is by default. `enabled: false`
switches it off; `level` is one of `P0`, `P1`, `P2`, `warning` and `info`.
";

/// The page about commands, options and exit codes.
pub fn command_line() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = format!("# Command line\n\n{ABOUT_COMMANDS}");
    describe(&root, "gpulock", &mut page);
    page
}

/// The page about the keys of the configuration.
pub fn configuration() -> String {
    let keys = gpulock::config::reference();
    let rest = keys.strip_prefix("# Configuration\n").unwrap_or(&keys);
    format!("# Configuration\n\n{ABOUT_KEYS}{rest}")
}

/// The document of the HTTP API, as JSON.
pub fn api() -> String {
    openapi::as_json() + "\n"
}

/// The page about alerts.
pub fn alerts() -> String {
    let mut page = format!(
        "# Alerts\n\n{ABOUT_ALERTS}\n| Alert | Level | What has happened |\n|---|---|---|\n"
    );
    for rule in &RULES {
        let Rule { name, urgency, summary, .. } = rule;
        add(
            &mut page,
            &format!("| [`{name}`](#{}) | {urgency} | {summary} |\n", name.to_lowercase()),
        );
    }
    RULES.iter().for_each(|rule| describe_rule(rule, &mut page));
    page
}

fn describe_rule(rule: &Rule, page: &mut String) {
    let Rule { name, urgency, summary, description, .. } = rule;
    let source = match rule.source {
        Source::Events => "an event of the pool, as `gpulock history` shows it",
        Source::Rounds => "a look at the pool in each round of the monitor",
        Source::Daemon => "the daemon, about itself and what it needs",
    };
    add(
        page,
        &format!(
            "\n## {name}\n\n{summary} {description}\n\n- Level: {urgency}\n- Comes from: {source}\n"
        ),
    );
    let setting = match rule.threshold {
        None => format!("{name}: {{level: {urgency}}}"),
        Some(figure) => {
            let bound = if rule.name.ends_with("_LOW") { "below" } else { "above" };
            add(page, &format!("- Threshold: {bound} {figure} {}\n", rule.unit));
            format!("{name}: {{level: {urgency}, threshold: {figure}}}")
        }
    };
    add(page, &format!("\n```yaml\nalerts:\n  rules:\n    {setting}\n```\n"));
}

/// A command and, after it, the commands below it.
fn describe(command: &Command, path: &str, page: &mut String) {
    let about = sentence(command.get_long_about().or(command.get_about()));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    add(page, &format!("\n## `{path}`\n\n{about}\n\n```text\n{usage}\n```\n"));
    let below: Vec<_> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
    add(page, &list(&below, path));
    add(page, &arguments(command, path));
    add(page, &after_help(command.get_after_help()));
    for one in below {
        describe(one, &format!("{path} {}", one.get_name()), page);
    }
}

fn list(commands: &[&Command], path: &str) -> String {
    let mut text = String::new();
    if !commands.is_empty() {
        add(&mut text, "\n| Command | Purpose |\n|---|---|\n");
    }
    for one in commands {
        let (full, about) = (format!("{path} {}", one.get_name()), sentence(one.get_about()));
        add(&mut text, &format!("| [`{full}`](#{}) | {about} |\n", full.replace(' ', "-")));
    }
    text
}

/// Those of the command itself. What can be said to every command stands at the top alone.
fn arguments(command: &Command, path: &str) -> String {
    let is_top = !path.contains(' ');
    let is_shown = |arg: &&Arg| {
        let is_standard = matches!(arg.get_id().as_str(), "help" | "version");
        !arg.is_hide_set() && !is_standard && (is_top || !arg.is_global_set())
    };
    let (places, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(is_shown).partition(|arg| arg.is_positional());
    let heading = if is_top { "Option of every command" } else { "Option" };
    table("Argument", &places) + &table(heading, &options)
}

fn table(heading: &str, rows: &[&Arg]) -> String {
    let mut text = String::new();
    if !rows.is_empty() {
        add(&mut text, &format!("\n| {heading} | Meaning |\n|---|---|\n"));
    }
    for arg in rows {
        add(&mut text, &format!("| `{}` | {} |\n", spelling(arg), meaning(arg)));
    }
    text
}

/// `--wait SPAN`, `COMMAND...`
fn spelling(arg: &Arg) -> String {
    let takes_value = arg.get_action().takes_values();
    let names = arg.get_value_names().filter(|_| takes_value).unwrap_or_default();
    let mut value = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    if is_list && arg.is_positional() {
        value.push_str("...");
    } else if is_list && let Some(between) = arg.get_value_delimiter() {
        value = format!("{value}[{between}{value}...]");
    }
    let option = arg.get_long().map(|long| format!("--{long}")).unwrap_or_default();
    // A bar would end the cell of the table.
    format!("{option} {value}").trim().replace('|', "\\|")
}

fn meaning(arg: &Arg) -> String {
    let mut text = sentence(arg.get_long_help().or(arg.get_help()));
    let choices = arg.get_possible_values();
    if arg.get_action().takes_values() && !choices.is_empty() {
        let described = choices.iter().map(|choice| match choice.get_help() {
            Some(help) => format!("`{}` ({})", choice.get_name(), lowered(&help.to_string())),
            None => format!("`{}`", choice.get_name()),
        });
        add(&mut text, &format!(" One of {}.", described.collect::<Vec<_>>().join(", ")));
    }
    let defaults = arg.get_default_values();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        let shown: Vec<_> = defaults.iter().map(|value| value.to_string_lossy()).collect();
        add(&mut text, &format!(" Default: `{}`.", shown.join(",")));
    }
    text.replace('|', "\\|")
}

/// What stands below a help text: a paragraph whose lines are indented under a title is a list
/// of commands, any other is text.
fn after_help(help: Option<&StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut text = String::new();
    for paragraph in help.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        match paragraph.split_once(":\n  ") {
            Some((title, commands)) => {
                let commands = commands.replace("\n  ", "\n");
                add(&mut text, &format!("\n{title}:\n\n```sh\n{}\n```\n", commands.trim_end()));
            }
            None => add(&mut text, &format!("\n{}\n", paragraph.trim())),
        }
    }
    text
}

/// A help text as a sentence: clap takes the full stop away.
fn sentence(help: Option<&StyledStr>) -> String {
    let text = help.map(ToString::to_string).unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() || text.ends_with(['.', '!', '?']) { text } else { format!("{text}.") }
}

fn lowered(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn add(page: &mut String, text: &str) {
    // Writing to a `String` cannot fail.
    let _ = page.write_str(text);
}
