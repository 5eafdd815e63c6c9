//! `gpulock config check` and `gpulock config show`.

use gpulock::config::Severity;
use serde::Serialize;

use crate::args::ConfigCommand;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

/// Looks into the configuration.
pub(crate) fn config(what: &ConfigCommand, session: &Session) -> Result<Code, Failure> {
    match what {
        ConfigCommand::Check => check(session),
        ConfigCommand::Show { json } => {
            show(session, *json);
            Ok(Code::Ok)
        }
    }
}

fn check(session: &Session) -> Result<Code, Failure> {
    let findings: Vec<_> =
        session.loaded.warnings.iter().cloned().chain(session.config().contradictions()).collect();
    for finding in &findings {
        output::data(&format!(
            "{}: {}: {}\nhint: {}\n",
            finding.severity, finding.place, finding.message, finding.hint
        ));
    }
    // No other command needs the section, its secrets and its files.
    gpulock_alerts::Alerting::load(session.config())?;
    let source = match &session.loaded.file {
        Some(path) => path.display().to_string(),
        None => "no file; defaults and environment".to_owned(),
    };
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    match errors {
        0 => {
            output::data(&format!(
                "{source}: good, {} to think about",
                counted(warnings, "warning")
            ));
            Ok(Code::Ok)
        }
        _ => Err(Failure::new(
            Code::Configuration,
            format!("{source}: {} and {}", counted(errors, "error"), counted(warnings, "warning")),
        )),
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[derive(Serialize)]
struct Shown {
    key: String,
    value: String,
    origin: String,
}

fn show(session: &Session, json: bool) {
    let entries = session.config().entries().into_iter();
    let shown: Vec<_> = entries
        .map(|entry| Shown {
            key: entry.path,
            value: entry.value,
            origin: entry.origin.to_string(),
        })
        .collect();
    if json {
        return output::json(&shown);
    }
    let rows: Vec<_> =
        shown.into_iter().map(|entry| vec![entry.key, entry.value, entry.origin]).collect();
    output::data(&output::table(&["KEY", "VALUE", "FROM"], &rows));
}
