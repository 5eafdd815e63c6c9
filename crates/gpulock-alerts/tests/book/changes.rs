//! A book whose configuration changes, and one that was written down.

use gpulock_alerts::book::Book;
use serde_json::Value;

use super::office::*;

#[test]
fn messages_for_a_channel_that_is_gone_are_given_up_and_stay_to_be_seen() {
    let mut office = Office::new(plan(&["slack", "mail"]));
    office.failing.insert("slack".to_owned(), trouble());
    office.hear(happened("a"));
    office.until(secs(60));
    office.plan = plan(&["mail"]);
    office.told();
    office.until(secs(100));
    assert_eq!((office.waiting(), office.dead()), (0, 1));
    assert_eq!(office.book.sums().channels["slack"].given_up, 1);
    office.until(secs(400));
    assert_eq!(office.told(), ["330 mail first +a"], "the same route, and another channel");
    assert!(office.book.resend(office.now, None).is_ok());
    office.work();
    assert_eq!((office.waiting(), office.dead()), (0, 1), "there is still nobody");
}

#[test]
fn a_route_that_is_gone_takes_its_groups_along_and_what_fires_goes_the_new_way() {
    let mut before = plan(&["slack", "mail"]);
    before.route.routes = vec![route(&before.route, &["task=a"], "mail")];
    let mut office = Office::new(before);
    office.hear(present("a"));
    office.until(secs(60));
    assert_eq!(office.told(), ["30 mail first +a"]);
    office.plan = plan(&["slack", "mail"]);
    office.until(secs(70));
    assert_eq!(office.told(), ["60 slack first +a"], "it has waited long enough");
    office.hear(over("a"));
    office.until(secs(1_000));
    assert_eq!(office.told(), ["360 slack all_resolved -a"]);
    assert_eq!(office.book.next_due(&office.plan), None);
}

#[test]
fn a_shorter_ladder_and_other_steps_do_no_harm() {
    let mut plan = plan(&["slack", "pager", "phone"]);
    plan.route.escalation = vec![step(1, "pager"), step(2, "phone")];
    let mut office = Office::new(plan);
    office.hear(present("a"));
    office.until(secs(100));
    office.plan.route.escalation = vec![step(1, "phone")];
    office.until(secs(1_000));
    assert_eq!(
        office.told(),
        ["30 slack first +a", "90 pager escalation +a", "330 phone first +a"]
    );
}

#[test]
fn a_feed_that_is_gone_is_forgotten() {
    let mut fed = plan(&["am"]);
    fed.channels.get_mut("am").expect("a feed").is_feed = true;
    let mut office = Office::new(fed);
    office.hear(present("a"));
    office.plan = plan(&["am"]);
    office.until(secs(1_000));
    assert_eq!(office.told(), ["0 am feed +a", "30 am first +a"]);
}

/// A book in which there is something of everything.
fn full() -> Office {
    let mut plan = plan(&["slack", "mail", "am"]);
    plan.channels.get_mut("am").expect("a feed").is_feed = true;
    plan.route.channels = names(&["slack", "mail", "am"]);
    plan.route.escalation = vec![step(1, "mail")];
    let mut office = Office::new(plan);
    office.silence("quiet", "task=c", 0, 500);
    office.failing.insert("mail".to_owned(), wrong());
    office.failing.insert("slack".to_owned(), trouble());
    for task in ["a", "b", "c"] {
        office.hear(happened(task));
    }
    office.acknowledge(&happened("b"));
    office.until(secs(40));
    office.hear(over("a"));
    office.book.take(office.now, &office.plan, DAEMON);
    office
}

#[test]
fn a_book_that_is_written_and_read_is_the_same() {
    let office = full();
    let json = serde_json::to_string(&office.book).expect("JSON");
    assert_eq!(serde_json::from_str::<Book>(&json).expect("a book"), office.book);
    let mut copy = office.clone();
    copy.book = serde_json::from_str(&json).expect("a book");
    let (mut one, mut other) = (office, copy);
    one.until(secs(2_000));
    other.until(secs(2_000));
    assert_eq!(one.told(), other.told());
}

/// Fields that are added get defaults, so that what an older daemon wrote can be read.
#[test]
fn a_book_of_an_earlier_version_can_be_read() {
    assert_eq!(serde_json::from_str::<Book>("{}").expect("a book"), Book::default());
    let office = full();
    let json = serde_json::to_value(&office.book).expect("JSON");
    let Value::Object(fields) = &json else { panic!("{json}") };
    for field in fields.keys() {
        let mut older = json.clone();
        older.as_object_mut().expect("an object").remove(field);
        let mut copy = office.clone();
        copy.book = serde_json::from_value(older).expect(field);
        copy.until(secs(500));
    }
    let mut more = json;
    more["of_a_later_version"] = Value::from(1);
    serde_json::from_value::<Book>(more).expect("a book of a later version");
}

/// What the first version wrote of an alert, a group and a message, without all that has defaults.
#[test]
fn what_has_defaults_may_be_missing() {
    let lost = happened("a").labels;
    let id = lost.fingerprint().to_string();
    let mut json = serde_json::json!({
        "alerts": {},
        "groups": {"{}:{}": {"labels": {}, "due": START.as_micros()}},
        "outbox": {"letters": {"1-1": {
            "channel": "slack", "reason": "first", "posted_at": START.as_micros(), "tries": 0,
            "group_key": "k", "group_labels": {}, "alerts": [], "count": 1,
            "not_before": START.as_micros(),
        }}},
        "feeds": {"am": {}},
        "quotas": {"slack": {}},
    });
    json["alerts"][&id] = serde_json::json!({
        "labels": lost, "urgency": "P1", "count": 1,
        "began_at": START.as_micros(), "last_at": START.as_micros(),
    });
    let mut office = Office::new(plan(&["slack"]));
    office.book = serde_json::from_value(json).expect("a book");
    office.until(secs(1_000));
    assert_eq!(office.told(), ["0 slack first ", "30 slack first +a", "330 slack all_resolved -a"]);
}
