//! The arguments of `gpulock alerts`.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use gpulock::config::span;
use gpulock::core::alert::Urgency;
use gpulock_alerts::plan::Matcher;

/// `gpulock alerts`
#[derive(Clone, Debug, Subcommand)]
pub enum Alerts {
    /// Show what fires, the most urgent first, and who has it in hand.
    #[command(after_help = LIST_EXAMPLES)]
    List(AlertList),
    /// Say that somebody has alerts in hand: they neither climb nor are repeated.
    #[command(after_help = ACK_EXAMPLES)]
    Ack(Ack),
    /// Tell nobody of some alerts for a while.
    #[command(after_help = SILENCE_EXAMPLES)]
    Silence(NewSilence),
    /// Show silences, also those that were over lately.
    Silences {
        /// As JSON with stable field names.
        #[arg(long)]
        json: bool,
    },
    /// End a silence now.
    Unsilence {
        /// Its id, or how that begins.
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
    /// Send messages again that were given up.
    #[command(after_help = RESEND_EXAMPLES)]
    Resend(Resend),
    /// Send a test message now, and say what became of it. It needs no daemon.
    #[command(after_help = TEST_EXAMPLES)]
    Test(Trial),
    /// Show who would be told of an alert, and when; nothing is sent.
    #[command(after_help = ROUTE_EXAMPLES)]
    Route(AlertRoute),
}

const LIST_EXAMPLES: &str = "\
Examples:
  gpulock alerts list
  gpulock alerts list --all --level P1
  gpulock alerts list --pool lab --json
  gpulock alerts list --undelivered

With --pool, alerts about other pools are left out; those about no pool are always shown.";

const ACK_EXAMPLES: &str = "\
Examples:
  gpulock alerts ack 5f0c41d2 --note 'driver hangs, rebooting gpu1'
  gpulock alerts ack 5f0c41d2 90be77aa --by alice";

const SILENCE_EXAMPLES: &str = "\
Examples:
  gpulock alerts silence pool=default --for 2h --comment 'new cards'
  gpulock alerts silence 'severity=~\"P2|warning\"' 'task!=asr' --for 30m
  gpulock alerts silence --everything --for 15m

Several matchers must all hold: = and != compare, =~ and !~ match the whole value with a
regular expression. The labels are alertname, severity, pool, gpu, task and channel.";

const RESEND_EXAMPLES: &str = "\
Examples:
  gpulock alerts resend 644a1c0f3b2e8-12
  gpulock alerts resend --all

`gpulock alerts list --undelivered` shows the messages with their ids.";

const TEST_EXAMPLES: &str = "\
Examples:
  gpulock alerts test ops
  gpulock alerts test ops phone --resolved
  gpulock alerts test ops --dry-run

Exit code 65 if the channel refuses the message, 75 if it cannot be reached or is in trouble.";

const ROUTE_EXAMPLES: &str = "\
Examples:
  gpulock alerts route GPU_LOCK_HARD_TIMEOUT
  gpulock alerts route alertname=GPU_LOCK_HARD_TIMEOUT pool=lab severity=P0

Without `severity` it is that of the rule.";

/// `gpulock alerts list`
#[derive(Clone, Debug, Args)]
pub struct AlertList {
    /// Also those that are over.
    #[arg(long)]
    pub all: bool,
    /// Only those that are at least so urgent: P0, P1, P2, warning, info.
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<Urgency>,
    /// As JSON with stable field names.
    #[arg(long)]
    pub json: bool,
    /// Messages that could not be delivered, with what went wrong.
    #[arg(long, conflicts_with_all = ["all", "level"])]
    pub undelivered: bool,
}

/// `gpulock alerts ack`
#[derive(Clone, Debug, Args)]
pub struct Ack {
    /// The ids of the alerts, or how they begin.
    #[arg(required = true, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub ids: Vec<String>,
    /// What is being done about it.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Who has it in hand (by itself USER@HOST).
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub by: Option<String>,
}

/// `gpulock alerts silence`
#[derive(Clone, Debug, Args)]
pub struct NewSilence {
    /// What a label must be: pool=default, severity=~"P2|warning".
    #[arg(value_name = "MATCHER")]
    pub matchers: Vec<Matcher>,
    /// For so long: 30m, 2h, 1h30m.
    #[arg(long = "for", value_name = "SPAN", value_parser = span, allow_hyphen_values = true)]
    pub lasting: Duration,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Who wants it (by itself USER@HOST).
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub by: Option<String>,
    /// Allow a silence that an alert without any labels would fall under.
    #[arg(long)]
    pub everything: bool,
}

/// `gpulock alerts resend`
#[derive(Clone, Debug, Args)]
pub struct Resend {
    /// The id of the message.
    #[arg(value_name = "ID", required_unless_present = "all")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub id: Option<String>,
    /// All that were given up.
    #[arg(long, conflicts_with = "id")]
    pub all: bool,
}

/// `gpulock alerts test`
#[derive(Clone, Debug, Args)]
pub struct Trial {
    /// The names of the channels.
    #[arg(required = true, value_name = "CHANNEL")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub channels: Vec<String>,
    /// Say that the test is over, as for an alert that is.
    #[arg(long)]
    pub resolved: bool,
    /// Send nothing, and print what would be sent.
    #[arg(long)]
    pub dry_run: bool,
}

/// `gpulock alerts route`
#[derive(Clone, Debug, Args)]
pub struct AlertRoute {
    /// The labels of the alert, or the name of a rule.
    #[arg(required = true, value_name = "LABEL=VALUE|RULE", value_parser = label)]
    pub labels: Vec<Label>,
    /// As JSON with stable field names.
    #[arg(long)]
    pub json: bool,
}

/// A label of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

fn label(text: &str) -> Result<Label, String> {
    let (name, value) = text.split_once('=').unwrap_or(("alertname", text));
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = !name.is_empty() && name.chars().all(is_of_name);
    if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("the name of a label has letters, digits and _".to_owned());
    }
    let value = value.trim_matches('"');
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    match name {
        "alertname" if !value.chars().all(is_of_name) => {
            Err("the name of a rule has letters, digits and _".to_owned())
        }
        "severity" => value
            .parse::<Urgency>()
            .map(|level| level.to_string())
            .map_err(|error| error.to_string()),
        _ => Ok(value.to_owned()),
    }
    .map(|value| Label { name: name.to_owned(), value })
}
