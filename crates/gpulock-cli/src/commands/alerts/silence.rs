//! `gpulock alerts silence`, `silences` and `unsilence`.

use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::Labels;
use gpulock_alerts::book::{Book, Silence, SilenceView};
use gpulock_alerts::plan::Matcher;

use crate::args::NewSilence;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

use super::list::{round, span};
use super::{line, misnamed, open, speaker};

/// As much as can be added to a moment.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Tells nobody of some alerts for a while.
pub(super) async fn silence(what: &NewSilence, session: &Session) -> Result<Code, Failure> {
    refuse_everything(what)?;
    if what.lasting > LONGEST {
        return Err(Failure::new(Code::Usage, "a silence lasts for ten years at most")
            .hint("switch a rule off in the configuration: alerts.rules.NAME.enabled"));
    }
    let (_, desk) = open(session)?;
    let (id, by) = (new_id()?, speaker(what.by.as_ref()));
    let covered = desk.step(|book, now| {
        let silence = Silence {
            matchers: what.matchers.clone(),
            starts_at: now,
            ends_at: now + what.lasting,
            created_by: by.clone(),
            comment: what.comment.clone().unwrap_or_default(),
        };
        let covered = firing(book).filter(|labels| silence.covers(labels)).count();
        book.silence(id.clone(), silence);
        covered
    });
    let covered = covered.await?;
    let which = match what.matchers.is_empty() {
        true => "every alert".to_owned(),
        false => shown(&what.matchers),
    };
    output::data(&output::visible(&format!(
        "silence {id} for {}: {which}; of the alerts that fire now it covers {covered}",
        round(what.lasting.as_secs_f64())
    )));
    Ok(Code::Ok)
}

/// Prints all that are remembered.
pub(super) async fn list(is_json: bool, session: &Session) -> Result<Code, Failure> {
    let (_, desk) = open(session)?;
    let (book, now) = desk.read().await?;
    let views = book.silence_views(now);
    if is_json {
        output::json(&views);
        return Ok(Code::Ok);
    }
    if views.is_empty() {
        output::notice("there are no silences");
        return Ok(Code::Ok);
    }
    let rows: Vec<_> = views.iter().map(|view| row(view, now)).collect();
    output::data(&output::table(&["ID", "STATE", "ENDS", "BY", "MATCHERS", "COMMENT"], &rows));
    Ok(Code::Ok)
}

/// Ends one now.
pub(super) async fn end(id: &str, session: &Session) -> Result<Code, Failure> {
    let (_, desk) = open(session)?;
    let ended = desk.step(|book, now| book.end_silence(now, id)).await?;
    let (book, _) = desk.read().await?;
    let id = ended.map_err(|unknown| misnamed(&unknown, &book))?;
    output::data(&format!("silence {id} has ended"));
    Ok(Code::Ok)
}

/// As Alertmanager does: what an alert without labels falls under was hardly meant.
fn refuse_everything(what: &NewSilence) -> Result<(), Failure> {
    let covers_all = Matcher::all_match(&what.matchers, &Labels::default());
    match (what.everything, covers_all) {
        (false, true) => {
            let message = match what.matchers.is_empty() {
                true => "without a matcher every alert would be silenced".to_owned(),
                false => format!("{} also holds for alerts without labels", shown(&what.matchers)),
            };
            Err(Failure::new(Code::Usage, message)
                .hint("name what is meant, such as pool=default; --everything if it is meant so"))
        }
        _ => Ok(()),
    }
}

fn firing(book: &Book) -> impl Iterator<Item = Labels> {
    book.alerts().filter(|(_, alert)| !alert.is_over()).map(|(_, alert)| alert.full_labels())
}

fn shown(matchers: &[Matcher]) -> String {
    matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Eight hexadecimal digits.
pub(crate) fn new_id() -> Result<String, Failure> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Code::Internal, format!("no random number: {error}")))?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}

fn row(view: &SilenceView, now: Time) -> Vec<String> {
    let left = view.ends_at - now.as_secs_f64();
    let ends =
        if left > 0.0 { format!("in {}", span(left)) } else { format!("{} ago", span(-left)) };
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        view.id.clone(),
        view.status.to_owned(),
        ends,
        line(&view.created_by),
        dash(line(&view.matchers.join(" "))),
        dash(line(&view.comment)),
    ]
}
