//! Rules and board beside what `/metrics` really says, and before Prometheus' own checker.

use std::collections::BTreeSet;
use std::fs;

use super::{dashboard, rules};
use crate::daemon::metrics::promtool::{self, repository};
use crate::daemon::metrics::{self, Format, render};

const MANUAL: &str = "docs/guides/operations.md";

#[test]
fn every_metric_of_rules_and_board_is_one_that_we_have() {
    let text = render(&metrics::tests::full(), Format::Classic);
    let there = metrics::tests::sample_names(&text);
    let asked: BTreeSet<_> = expressions().iter().flat_map(|it| metric_names(it)).collect();
    assert!(asked.len() > 20, "expressions are no longer understood: {asked:?}");
    let unknown: Vec<_> = asked.difference(&there).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not in:\n{text}");
}

#[test]
fn every_metric_is_on_the_board() {
    let text = render(&metrics::tests::full(), Format::Classic);
    let board: BTreeSet<_> =
        dashboard::expressions().iter().flat_map(|it| metric_names(it)).collect();
    for name in metrics::tests::sample_names(&text) {
        let is_part = name.ends_with("_sum") || name.ends_with("_count");
        let is_older = name.starts_with("gpu_lock_config_");
        assert!(is_part || is_older || board.contains(&name), "{name} is shown nowhere");
    }
}

#[test]
fn promtool_accepts_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    fs::write(&file, rules::file()).unwrap();
    promtool::accepts(&["check", "rules", file.to_str().unwrap()], "");
}

#[test]
fn promtool_accepts_every_query_of_the_board() {
    let mut text = "groups:\n  - name: board\n    rules:\n".to_owned();
    for (number, expression) in dashboard::expressions().iter().enumerate() {
        let quoted = expression.replace('\'', "''");
        text += &format!("      - record: board:query:{number}\n        expr: '{quoted}'\n");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("board.yml");
    fs::write(&file, text).unwrap();
    promtool::accepts(&["check", "rules", file.to_str().unwrap()], "");
}

#[test]
fn every_rule_fires_when_it_should_and_only_then() {
    promtool::accepts(&["test", "rules", "gpulock-rules.test.yml"], "");
}

#[test]
fn every_rule_is_tested_for_firing_and_for_silence() {
    let tests =
        fs::read_to_string(repository().join("deploy/prometheus/gpulock-rules.test.yml")).unwrap();
    for name in rules::tests::names() {
        let cases: Vec<_> = tests.split("alertname: ").skip(1).collect();
        let of_rule = || cases.iter().filter(|case| case.lines().next().unwrap() == name);
        let is_silent = |case: &&&str| case.lines().nth(1).unwrap().trim() == "exp_alerts: []";
        assert!(of_rule().any(|case| is_silent(&case)), "{name} is never silent");
        assert!(of_rule().any(|case| !is_silent(&case)), "{name} never fires");
    }
}

#[test]
fn promtool_accepts_the_example_of_a_configuration() {
    promtool::accepts(&["check", "config", "prometheus.yml"], "");
}

#[test]
fn every_alert_is_in_the_manual() {
    let manual = fs::read_to_string(repository().join(MANUAL))
        .unwrap_or_else(|error| panic!("{MANUAL}: {error}"));
    let headings = manual.lines().filter(|line| line.starts_with('#'));
    let headings: BTreeSet<_> = headings.map(|line| line.trim_matches(['#', ' ', '`'])).collect();
    for name in rules::tests::names() {
        assert!(headings.contains(name), "{MANUAL} has no heading `{name}`");
    }
}

fn expressions() -> Vec<String> {
    [rules::tests::expressions(), dashboard::expressions()].concat()
}

/// What begins like our metrics.
fn metric_names(expression: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // The keys of the configuration, too, begin like that.
    let outside: String = expression.split('"').step_by(2).collect();
    let is_ours = |word: &&str| ["gpu_lock_", "gpulock_"].iter().any(|it| word.starts_with(it));
    let words = outside.split(|c| !is_name(c)).filter(is_ours);
    words.map(str::to_owned).collect()
}
