//! What the scripts answer, taken apart. Whatever is not exactly as expected is refused with
//! the reason.

use std::str::FromStr;

use gpulock_core::{Lease, Ledger, Pool, PoolName, TaskBeat, TaskRecord, Time, Waiter};
use redis::Value;
use serde::de::DeserializeOwned;

use crate::store::{Document, DocumentNews, DocumentSwap, Entry, Versions, View};

/// The newest format of the keys that is known here.
pub(super) const FORMAT: u32 = 1;

type Parsed<T> = Result<T, Wrong>;

/// Why an answer was refused.
#[derive(Debug)]
pub(super) enum Wrong {
    /// A newer gpulock wrote the pool, in this format.
    Newer(u32),
    /// It is not what the scripts answer.
    Odd(String),
}

fn odd<T>(reason: impl Into<String>) -> Parsed<T> {
    Err(Wrong::Odd(reason.into()))
}

/// The versions after a swap that was written, and when it was; if it was not, the answer is
/// a [`picture`].
pub(super) fn written(answer: &Value, expected: Versions) -> Option<(Versions, Time)> {
    let Value::Array(parts) = answer else { return None };
    let [name, leases, queue, now] = &parts[..] else { return None };
    let raised = |version: &Value, otherwise| match version {
        Value::Nil => Some(otherwise),
        version => number(version).ok(),
    };
    let versions = Versions {
        leases: raised(leases, expected.leases)?,
        queue: raised(queue, expected.queue)?,
    };
    let is_written = text(name).is_ok_and(|name| name == "written");
    is_written.then_some((versions, Time::from_micros(number(now).ok()?)))
}

/// The picture of a pool; see `picture.lua`.
pub(super) fn picture(answer: Value) -> Parsed<View> {
    let [name, now, head, shown, queue_len, asker] = parts(answer, "a picture")?;
    if text(&name)? != "picture" {
        return odd("it does not begin with 'picture'");
    }
    let (versions, ledger, leases) = record(head)?;
    let window = waiters_with_times(list(shown, "the waiters")?)?;
    let pool = Pool { ledger, leases, window, asker: None, queue_len: number(&queue_len)? };
    let mut view = View {
        pool,
        versions,
        now: Time::from_micros(number(&now)?),
        ahead: None,
        incarnation: None,
    };
    view.pool.window.sort_by_key(Waiter::order);
    match &list(asker, "the asker")?[..] {
        [] => {}
        [body, seen, ahead] => {
            let asker = waiter(body, seen)?;
            view.ahead = Some(number(ahead)?);
            if view.pool.waiter(asker.lease_id).is_none() {
                view.pool.asker = Some(asker);
            }
        }
        other => return odd(format!("the asker has {} parts", other.len())),
    }
    Ok(view)
}

/// All waiters of a pool, from the fields and values of their hash.
pub(super) fn waiters(answer: Value) -> Parsed<Vec<Waiter>> {
    let mut bodies = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for (field, value) in pairs(answer)? {
        match field.strip_suffix(":seen") {
            Some(id) => drop(seen.insert(id.to_owned(), value)),
            None => bodies.push((field, value)),
        }
    }
    let joined = bodies.iter().map(|(id, body)| match seen.get(id) {
        Some(seen) => waiter(body, seen),
        None => odd(format!("waiter {id} was never seen")),
    });
    joined.collect()
}

/// A page of the journal.
pub(super) fn entries(answer: Value) -> Parsed<Vec<Entry>> {
    let entries = list(answer, "the journal")?.into_iter().map(|entry| {
        let [id, fields] = parts(entry, "an entry of the journal")?;
        let [_, body] = parts(fields, "an event")?;
        let id = text(&id)?;
        match id.parse() {
            Ok(cursor) => Ok(Entry { cursor, event: json(text(&body)?)? }),
            Err(_) => odd(format!("'{id}' is not a place in a stream")),
        }
    });
    entries.collect()
}

/// A count.
pub(super) fn count(answer: &Value) -> Parsed<usize> {
    match answer {
        Value::Int(count) => usize::try_from(*count).or_else(|_| odd("a count is below 0")),
        other => number(other),
    }
}

/// What is remembered of a task that gave this sign of life; see `beat.lua`.
pub(super) fn written_beat(answer: Value, beat: TaskBeat) -> Parsed<TaskRecord> {
    let [started_at, updated_at] = parts(answer, "the times of a task")?;
    record_of(beat, number(&started_at)?, number(&updated_at)?)
}

/// What is remembered of tasks: each as two times, a line break, and the last sign of life.
pub(super) fn tasks(answer: Value) -> Parsed<Vec<TaskRecord>> {
    let records = pairs(answer)?.into_iter().map(|(task_id, value)| {
        let told = text(&value)?.split_once('\n');
        let Some(((started_at, updated_at), body)) =
            told.and_then(|(times, body)| Some((times.split_once(' ')?, body)))
        else {
            return odd(format!("task {task_id} has no times"));
        };
        match (started_at.parse(), updated_at.parse()) {
            (Ok(started_at), Ok(updated_at)) => record_of(json(body)?, started_at, updated_at),
            _ => odd(format!("the times of task {task_id} are not numbers")),
        }
    });
    records.collect()
}

fn record_of(beat: TaskBeat, started_at: u64, updated_at: u64) -> Parsed<TaskRecord> {
    let record = TaskRecord::after(beat, None, Time::from_micros(updated_at));
    Ok(TaskRecord { started_at: Time::from_micros(started_at), ..record })
}

/// What has become of a document since this version; see `document.lua`.
pub(super) fn document_news(answer: Value, known: u64) -> Parsed<DocumentNews> {
    let [now, version, body] = parts(answer, "a document")?;
    let (now, version) = (Time::from_micros(number(&now)?), number(&version)?);
    match version == known {
        true => Ok(DocumentNews::Unchanged { now }),
        false => Ok(DocumentNews::Changed(document(now, version, &body)?)),
    }
}

/// What became of the write of a document; see `swap_document.lua`.
pub(super) fn document_swap(answer: Value) -> Parsed<DocumentSwap> {
    match &list(answer, "a written document")?[..] {
        [now, version] => {
            let now = Time::from_micros(number(now)?);
            Ok(DocumentSwap::Written { version: number(version)?, now })
        }
        [now, version, body] => {
            let now = Time::from_micros(number(now)?);
            Ok(DocumentSwap::Conflict(document(now, number(version)?, body)?))
        }
        other => odd(format!("a written document has {} parts", other.len())),
    }
}

fn document(now: Time, version: u64, body: &Value) -> Parsed<Document> {
    match (body, version) {
        (Value::Nil, 0) => Ok(Document::never_written(now)),
        (Value::Nil, _) => odd(format!("version {version} of a document has no text")),
        (body, _) => Ok(Document { text: text(body)?.to_owned(), version, now }),
    }
}

/// Names of pools.
pub(super) fn pools(answer: Value) -> Parsed<Vec<PoolName>> {
    let names = match answer {
        Value::Set(names) => names,
        other => list(other, "the names of the pools")?,
    };
    let parsed = names.iter().map(|name| match text(name)?.parse::<PoolName>() {
        Ok(name) => Ok(name),
        Err(error) => odd(error.to_string()),
    });
    parsed.collect()
}

/// One name.
pub(super) fn name(answer: Value) -> Option<String> {
    text(&answer).ok().map(str::to_owned)
}

fn record(head: Value) -> Parsed<(Versions, Ledger, Vec<Lease>)> {
    let (mut versions, mut ledger, mut leases) =
        (Versions::default(), Ledger::default(), Vec::new());
    for (field, value) in pairs(head)? {
        match field.as_str() {
            "format" => require_known(number(&value)?)?,
            "leases" => versions.leases = number(&value)?,
            "queue" => versions.queue = number(&value)?,
            "ledger" => ledger = json(text(&value)?)?,
            "clock" | "skew" | "arrivals" => {}
            _ => leases.push(json(text(&value)?)?),
        }
    }
    Ok((versions, ledger, leases))
}

fn require_known(format: u32) -> Parsed<()> {
    match format > FORMAT {
        true => Err(Wrong::Newer(format)),
        false => Ok(()),
    }
}

fn waiters_with_times(values: Vec<Value>) -> Parsed<Vec<Waiter>> {
    let joined = values.chunks(2).map(|pair| match pair {
        [body, seen] => waiter(body, seen),
        _ => odd("a waiter has no time at which it was seen"),
    });
    joined.collect()
}

/// `LANE PLACE`, a line break, and the waiter: the last sixteen digits of its place are its
/// arrival number.
fn waiter(body: &Value, seen: &Value) -> Parsed<Waiter> {
    let Some((place, body)) = text(body)?.split_once('\n') else {
        return odd("a waiter has no place");
    };
    let arrival = place.rsplit_once(' ').and_then(|(_, digits)| digits.get(1..)?.parse().ok());
    let Some(arrival) = arrival else {
        return odd(format!("'{place}' is not a place in the queue"));
    };
    let mut waiter: Waiter = json(body)?;
    waiter.arrival = arrival;
    waiter.seen_at = Time::from_micros(number(seen)?);
    Ok(waiter)
}

fn pairs(answer: Value) -> Parsed<Vec<(String, Value)>> {
    let flat = match answer {
        Value::Map(pairs) => pairs,
        other => {
            let mut values = list(other, "a hash")?.into_iter();
            let mut pairs = Vec::new();
            while let Some(field) = values.next() {
                match values.next() {
                    Some(value) => pairs.push((field, value)),
                    None => return odd("a field has no value"),
                }
            }
            pairs
        }
    };
    flat.into_iter().map(|(field, value)| Ok((text(&field)?.to_owned(), value))).collect()
}

fn parts<const N: usize>(answer: Value, what: &str) -> Parsed<[Value; N]> {
    let values = list(answer, what)?;
    let count = values.len();
    values.try_into().or_else(|_| odd(format!("{what} has {count} parts instead of {N}")))
}

fn list(answer: Value, what: &str) -> Parsed<Vec<Value>> {
    match answer {
        Value::Array(values) => Ok(values),
        _ => odd(format!("{what} is not a list")),
    }
}

fn number<T: FromStr>(value: &Value) -> Parsed<T> {
    let text = text(value)?;
    text.parse().or_else(|_| odd(format!("'{text}' is not a number")))
}

fn text(value: &Value) -> Parsed<&str> {
    match value {
        Value::BulkString(bytes) => {
            std::str::from_utf8(bytes).or_else(|_| odd("a text is not UTF-8"))
        }
        Value::SimpleString(text) => Ok(text),
        _ => odd("a text is missing"),
    }
}

fn json<T: DeserializeOwned>(body: &str) -> Parsed<T> {
    serde_json::from_str(body).or_else(|error| odd(error.to_string()))
}
