//! `gpulock alerts test`: a real message, now.

use std::collections::BTreeMap;

use gpulock::brief;
use gpulock::core::Time;
use gpulock::core::alert::{Labels, Urgency};
use gpulock_alerts::{
    Alerting, Failure as Undelivered, Notification, NotifiedAlert, Reason, Status,
};

use crate::args::{LogFormat, Trial};
use crate::daemon::begin_to_log;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

use super::{PAGE, line, speaker};

/// The rule that a test message names.
const RULE: &str = "GPU_LOCK_TEST";

/// Sends a message through each channel, and ends with the code of the last that failed.
pub(super) async fn trial(what: &Trial, session: &Session) -> Result<Code, Failure> {
    let alerting = Alerting::load(session.config())?.unwrap_or_default();
    let kinds = what.channels.iter().map(|name| kind_of(name, &alerting));
    let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
    // The channel `log` writes there.
    begin_to_log(LogFormat::Human);
    let by = speaker(None);
    let mut code = Code::Ok;
    for (name, kind) in what.channels.iter().zip(kinds) {
        let now = now();
        let told = message(now, name, &by, what.resolved, session);
        if what.dry_run {
            show(told, now, &alerting);
            continue;
        }
        let text = alerting.text(&completed(&told, &alerting), now);
        match alerting.deliver(&told, now).await {
            Ok(()) => {
                let said = format!("{name} ({kind}) has it: {}", line(&text.title));
                output::data(&output::visible(&said));
            }
            Err(undelivered) => {
                let failure = failed(name, kind, &undelivered);
                output::failure(&failure);
                code = failure.code;
            }
        }
    }
    Ok(code)
}

/// The kind of a channel, if there is such a channel.
fn kind_of(name: &str, alerting: &Alerting) -> Result<&'static str, Failure> {
    alerting.channel(name).map(|channel| channel.kind()).ok_or_else(|| {
        let names: Vec<_> = alerting.channels().map(|(name, _)| name).collect();
        let hint = match names.is_empty() {
            true => format!("there is none at all; {PAGE} says how to describe one"),
            false => format!("there are: {}", names.join(", ")),
        };
        Failure::new(Code::Usage, format!("there is no channel `{}`", line(name))).hint(hint)
    })
}

/// On this host's clock: no store is needed.
fn now() -> Time {
    let micros = jiff::Timestamp::now().as_microsecond();
    Time::from_micros(u64::try_from(micros).unwrap_or_default())
}

fn completed(told: &Notification, alerting: &Alerting) -> Notification {
    let mut told = told.clone();
    alerting.complete(&mut told);
    told
}

fn show(told: Notification, now: Time, alerting: &Alerting) {
    let told = completed(&told, alerting);
    let text = alerting.text(&told, now);
    let shown = format!("to {}:\n{}\n\n{}\n", told.receiver, text.title, text.body);
    output::data(&output::visible(&shown));
    output::json(&told);
}

/// The same alert each time, so that `--resolved` closes what a test has opened.
fn message(
    now: Time,
    channel: &str,
    by: &str,
    is_resolved: bool,
    session: &Session,
) -> Notification {
    let labels = Labels::default()
        .with(Labels::RULE, RULE)
        .with(Labels::SEVERITY, Urgency::Info.as_str())
        .with("pool", session.pool.as_str());
    let annotations = BTreeMap::from([
        ("summary".to_owned(), "This is a test of gpulock; nothing is wrong.".to_owned()),
        ("description".to_owned(), format!("{by} has sent it by `gpulock alerts test {channel}`.")),
        ("host".to_owned(), gpulock::process::host()),
    ]);
    let status = if is_resolved { Status::Resolved } else { Status::Firing };
    let group_labels = labels.only(&[Labels::RULE, "pool"]);
    Notification {
        id: format!("test-{:x}", now.as_micros()),
        version: "4",
        group_key: format!("{{}}:{{{group_labels}}}"),
        truncated_alerts: 0,
        status,
        receiver: channel.to_owned(),
        group_labels,
        common_labels: labels.clone(),
        common_annotations: annotations.clone(),
        external_url: String::new(),
        reason: "test".to_owned(),
        alerts: vec![NotifiedAlert {
            status,
            fingerprint: labels.fingerprint(),
            labels,
            annotations,
            starts_at: now,
            ends_at: is_resolved.then_some(now),
            generator_url: String::new(),
            count: 1,
        }],
        count: 1,
    }
}

/// Why it was not delivered, and what to do.
fn failed(name: &str, kind: &str, undelivered: &Undelivered) -> Failure {
    let place = format!("alerts.channels.{name}.{kind}");
    let (code, hint) = match undelivered.reason {
        Reason::AuthError => (Code::Configuration, format!("look at the secret in {place}")),
        Reason::ClientError => (Code::Configuration, format!("look at {place} and its template")),
        Reason::Forbidden => (
            Code::Configuration,
            format!("if the address is meant, alerts.channels.{name}.allow_private: true"),
        ),
        Reason::Gone => {
            (Code::Configuration, format!("make a new address, and put it into {place}"))
        }
        Reason::RateLimited => (Code::NotAcquired, "try again in a minute".to_owned()),
        Reason::ServerError => {
            (Code::NotAcquired, "try again later; the fault is theirs".to_owned())
        }
        Reason::ContextDeadlineExceeded => (
            Code::NotAcquired,
            format!("look at the network, or raise alerts.channels.{name}.timeout"),
        ),
        Reason::Unreachable => {
            (Code::NotAcquired, format!("look at the address in {place}, and at the network"))
        }
        Reason::Local => (Code::Internal, format!("look at {place}, and at rights on this host")),
    };
    let reason = undelivered.reason.as_str();
    let message =
        format!("{name} ({kind}) has not taken it, {reason}: {}", line(&undelivered.detail));
    match undelivered.retry_after {
        Some(pause) => {
            let hint = format!("it wants nothing for {}; {hint}", brief(pause));
            Failure::new(code, message).hint(hint)
        }
        None => Failure::new(code, message).hint(hint),
    }
}
