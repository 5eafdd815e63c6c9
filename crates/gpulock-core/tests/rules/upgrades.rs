//! Records that an earlier version wrote are read by this one, and this one reads what it can
//! of a later one.
//!
//! The files in `records-v1` are never changed: where the format grows, a new folder comes
//! beside them. A field that this version does not know is passed over (and lost when the
//! record is written again), so old and new binaries can share a pool while they are being
//! exchanged. A *word* that it does not know, such as a new phase, is refused: a lease that
//! cannot be understood must never be taken for a free GPU.

use std::collections::BTreeMap;

use gpulock_core::{
    Changes, Event, Lease, LeaseId, Ledger, Phase, Record, Reply, Settings, Time, Waiter,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::support::*;

const LEASES: [&str; 5] = [
    include_str!("records-v1/lease-granted.json"),
    include_str!("records-v1/lease-held.json"),
    include_str!("records-v1/lease-stopping.json"),
    include_str!("records-v1/lease-draining.json"),
    include_str!("records-v1/lease-fixed.json"),
];
const WAITERS: [&str; 2] =
    [include_str!("records-v1/waiter-named.json"), include_str!("records-v1/waiter-any.json")];
const LEDGER: &str = include_str!("records-v1/ledger.json");
const EVENTS: &str = include_str!("records-v1/events.json");

/// Words that stand alone in an object and say which kind of thing it holds. Next to them
/// there is no place for a field.
const KINDS: [&str; 8] =
    ["granted", "held", "stopping", "draining", "heartbeats", "fixed", "seized", "expired"];

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn events() -> Vec<String> {
    read::<Vec<Value>>(EVENTS).iter().map(Value::to_string).collect()
}

/// Reads a record, writes it again, and finds every field of it as it was.
fn survives<T: DeserializeOwned + Serialize>(text: &str) {
    let rewritten = serde_json::to_value(read::<T>(text)).expect("a value that can be written");
    assert_keeps(&read(text), &rewritten, text);
}

fn assert_keeps(old: &Value, new: &Value, text: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => old.iter().for_each(|(name, value)| {
            let kept = new.get(name).unwrap_or_else(|| panic!("lost {name} of {text}"));
            assert_keeps(value, kept, text);
        }),
        _ => assert_eq!(old, new, "in {text}"),
    }
}

/// The record as a later version might write it, with a field more in every object.
fn grown(text: &str) -> String {
    fn grow(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(grow);
                let is_kind = fields.len() == 1 && fields.keys().all(|k| KINDS.contains(&&**k));
                // A span of time is of the standard library and does not grow.
                if !is_kind && !fields.contains_key("secs") {
                    fields.insert("of_a_later_version".to_owned(), json!({"some": ["thing"]}));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(grow),
            _ => {}
        }
    }
    let mut value = read(text);
    grow(&mut value);
    value.to_string()
}

fn tolerates<T: DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str) {
    assert_ne!(grown(text), text);
    assert_eq!(read::<T>(&grown(text)), read::<T>(text));
}

#[test]
fn stored_records_are_read_and_written_again_without_loss() {
    LEASES.iter().for_each(|text| survives::<Lease>(text));
    WAITERS.iter().for_each(|text| survives::<Waiter>(text));
    events().iter().for_each(|text| survives::<Event>(text));
    survives::<Ledger>(LEDGER);
}

#[test]
fn fields_of_a_later_version_are_passed_over() {
    LEASES.iter().for_each(|text| tolerates::<Lease>(text));
    WAITERS.iter().for_each(|text| tolerates::<Waiter>(text));
    events().iter().for_each(|text| tolerates::<Event>(text));
    tolerates::<Ledger>(LEDGER);
}

#[test]
fn a_phase_of_a_later_version_is_refused_and_not_taken_for_another() {
    for text in LEASES {
        let mut lease: Value = read(text);
        lease["phase"] = json!({"quarantined": {"until": 1_700_000_000_000_000_u64}});
        let error = serde_json::from_value::<Lease>(lease).unwrap_err();
        assert!(error.to_string().contains("quarantined"), "{error}");
    }
}

#[test]
fn a_priority_or_an_event_of_a_later_version_is_refused() {
    let mut waiter: Value = read(WAITERS[0]);
    waiter["priority"] = json!("eventually");
    assert!(serde_json::from_value::<Waiter>(waiter).is_err());
    let mut event: Value = read(&events()[0]);
    event["event"] = json!("preempted");
    assert!(serde_json::from_value::<Event>(event).is_err());
}

#[test]
fn what_an_earlier_ledger_did_not_have_takes_its_default() {
    let ledger: Ledger = read(r#"{"last_token": 7}"#);
    assert_eq!(ledger.settings, Settings::default());
    assert_eq!(ledger.inventory, None);
    let ledger: Ledger = read(
        r#"{"last_token": 7, "settings": {"claim_time": {"secs": 3, "nanos": 0}},
            "counters": {"granted": 5}}"#,
    );
    assert_eq!(ledger.settings, Settings { claim_time: secs(3), ..Settings::default() });
    assert_eq!((ledger.counters.granted, ledger.counters.seized), (5, 0));
}

#[test]
fn every_phase_keeps_its_meaning() {
    let phases = LEASES.map(|text| read::<Lease>(text).phase);
    let seconds = |seconds| START + secs(seconds);
    assert!(matches!(phases[0], Phase::Granted { claim_by } if claim_by == seconds(10)));
    assert!(matches!(phases[1], Phase::Held { deadline, .. } if deadline == seconds(35)));
    assert!(matches!(phases[2], Phase::Stopping { deadline, .. } if deadline == seconds(35)));
    assert!(matches!(phases[3], Phase::Draining { ended_at, .. } if ended_at == seconds(5)));
    assert!(matches!(phases[4], Phase::Held { deadline, .. } if deadline == seconds(3_605)));
}

/// A pool as an earlier version left it.
fn taken_over(leases: &[&str], now: Time) -> Desk {
    let leases: Vec<Lease> = leases.iter().map(|text| read(text)).collect();
    let waiters = WAITERS.map(|text| Waiter { seen_at: now, ..read(text) });
    let mut record = Record::default();
    record.apply(&Changes {
        ledger: Some(read(LEDGER)),
        leases: leases.into_iter().map(|lease| (lease.lease_id, Some(lease))).collect(),
        waiters: waiters.into_iter().map(|w| (w.lease_id, Some(w))).collect::<BTreeMap<_, _>>(),
        ..Changes::default()
    });
    Desk { record, now }
}

#[test]
fn a_pool_of_an_earlier_version_goes_on_living() {
    let mut desk = taken_over(&[LEASES[1], LEASES[4]], START + secs(6));
    let [held, fixed] = [LEASES[1], LEASES[4]].map(read::<Lease>);
    assert_eq!(desk.renew(&held).held, Some((desk.now + secs(30), None)));
    assert_eq!(desk.release(&fixed).reply, Reply::Done);
    let named = LeaseId::from_bits(3);
    assert!(desk.view().lease(named).is_some_and(|lease| lease.token > fixed.token));
    let (draining, mut desk) =
        (read::<Lease>(LEASES[3]), taken_over(&[LEASES[3]], START + secs(6)));
    desk.see(&draining, Seen::Nothing);
    assert_eq!(desk.view().lease(draining.lease_id), None);
}
