//! `gpulock history`: what happened.

use gpulock::brief;
use gpulock::core::{CancelReason, Cause, Ending, Event, GpuIndex, Incident, What};
use gpulock::store::Wanted;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::Duration;

use crate::args::History;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

/// Prints the latest events, the latest last.
pub(crate) async fn history(what: &History, session: &Session) -> Result<Code, Failure> {
    let client = session.client(session.connect()?)?;
    let wanted = Wanted { limit: what.limit as usize, task: what.task.clone() };
    let mut events = client.history(&wanted).await?;
    events.reverse();
    if what.json {
        for event in &events {
            let line = serde_json::to_string(event)
                .map_err(|error| Failure::new(Code::Internal, error))?;
            output::data(&line);
        }
        return Ok(Code::Ok);
    }
    if events.is_empty() {
        output::notice("nothing has happened yet");
        return Ok(Code::Ok);
    }
    let rows: Vec<_> = events.iter().map(row).collect();
    output::data(&output::table(&["WHEN", "TASK", "PID", "WHAT"], &rows));
    Ok(Code::Ok)
}

fn row(event: &Event) -> Vec<String> {
    let party = event.party.as_ref();
    let dash = || "-".to_owned();
    vec![
        moment(event),
        party.map_or_else(dash, |party| party.task.to_string()),
        party.and_then(|party| party.pid).map_or_else(dash, |pid| pid.to_string()),
        sentence(event),
    ]
}

/// In the user's time zone.
fn moment(event: &Event) -> String {
    match Timestamp::from_microsecond(event.at.as_micros().cast_signed()) {
        Ok(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => event.at.to_string(),
    }
}

pub(crate) fn sentence(event: &Event) -> String {
    let span = |micros: &u64| brief(Duration::from_micros(*micros));
    match &event.what {
        What::Queued { wants, priority } => {
            format!("waits for {wants}, priority {priority:?}").to_lowercase().replace("gpu", "GPU")
        }
        What::Granted { gpus, waited_micros, .. } => {
            format!("gets {} after {}", named(gpus), span(waited_micros))
        }
        What::Claimed { .. } => "starts to work".to_owned(),
        What::StopRequested { reason, .. } => format!("is asked to stop: {reason}"),
        What::Overdue { level, gpus, held_micros, .. } => {
            format!("reaches its {level} on {} after {}", named(gpus), span(held_micros))
        }
        What::StillDraining { gpus, is_given_up: false, .. } => {
            format!("still has processes on {}", named(gpus))
        }
        What::StillDraining { gpus, is_given_up: true, .. } => {
            format!("still has processes on {} and is given up", named(gpus))
        }
        What::Ended { gpus, how, held_micros, draining, .. } => {
            let how = match how {
                Ending::Released => "gives back".to_owned(),
                Ending::Expired(Cause::Deadline) => "runs out of time on".to_owned(),
                Ending::Expired(Cause::HolderDied) => "died on".to_owned(),
                Ending::Expired(Cause::NotClaimed) => "did not pick up".to_owned(),
                Ending::Seized { by, reason } => format!("loses to {by} ({reason})"),
            };
            let rest = if *draining { ", its processes still run" } else { "" };
            format!("{how} {} after {}{rest}", named(gpus), span(held_micros))
        }
        What::Drained { gpus, .. } => format!("has left {}", named(gpus)),
        What::Cancelled { reason: CancelReason::TimedOut, waited_micros } => {
            format!("gives up after {}", span(waited_micros))
        }
        What::Cancelled { reason: CancelReason::GaveUp, waited_micros } => {
            format!("is called off after {}", span(waited_micros))
        }
        What::Dropped { waited_micros } => {
            format!("drops out of the queue after {}", span(waited_micros))
        }
        What::Incident { incident, error } => {
            let what = match incident {
                Incident::NormalReleaseFailure => "was not released at the first attempt",
                Incident::EmergencyRelease => "is released on a second way",
                Incident::ReleaseScriptError => "was answered with an error when it released",
                Incident::CriticalFailure => "could not be released and is left to its deadline",
            };
            format!("{what}: {error}")
        }
        What::Raised { alert } => {
            format!("raises the alert {} ({}): {}", alert.name, alert.urgency, alert.message)
        }
        What::Resumed { closed_until: None } => "the store is back".to_owned(),
        What::Resumed { closed_until: Some(until) } => format!(
            "the store is back and may have forgotten leases; nothing was lent for {}",
            brief(until.since(event.at))
        ),
        What::Configured { inventory } => format!("the pool has {inventory}"),
    }
}

fn named(gpus: &[GpuIndex]) -> String {
    let numbers: Vec<_> = gpus.iter().map(ToString::to_string).collect();
    format!("GPU {}", numbers.join(","))
}
