//! What nobody acknowledges is told further up.

use gpulock_alerts::book::{Acknowledgement, Unknown};
use gpulock_alerts::plan::Plan;

use super::office::*;

/// Told to slack at once, to a pager after 10 minutes, and to a phone after 20.
fn ladder() -> Plan {
    let mut plan = plan(&["slack", "pager", "phone"]);
    plan.route.group_wait = secs(0);
    plan.route.escalation = vec![step(10, "pager"), step(20, "phone")];
    plan
}

#[test]
fn what_nobody_acknowledges_climbs_step_by_step() {
    let mut office = Office::new(ladder());
    office.hear(present("a"));
    office.until(secs(599));
    assert_eq!(office.told(), ["0 slack first +a"]);
    office.until(secs(10_000));
    assert_eq!(office.told(), ["600 pager escalation +a", "1200 phone escalation +a"]);
    assert_eq!(office.book.view(office.now, &office.plan)[0].climbed, 2);
}

#[test]
fn it_stops_when_somebody_acknowledges() {
    let mut office = Office::new(ladder());
    office.hear(present("a"));
    office.until(secs(700));
    office.acknowledge(&present("a"));
    office.until(secs(20_000));
    assert_eq!(office.told(), ["0 slack first +a", "600 pager escalation +a"], "no repetition too");
    office.hear(over("a"));
    office.until(secs(21_000));
    let mut told = office.told();
    told.sort();
    assert_eq!(told, ["20100 pager all_resolved -a", "20100 slack all_resolved -a"]);
}

#[test]
fn what_is_acknowledged_is_repeated_as_long_as_another_of_its_group_is_not() {
    let mut office = Office::new(ladder());
    office.plan.route.escalation.clear();
    office.plan.route.repeat_interval = secs(600);
    office.hear(present("a"));
    office.hear(present("b"));
    office.until(secs(10));
    office.acknowledge(&present("a"));
    office.until(secs(1_000));
    assert_eq!(office.told()[2..], ["900 slack repeat +a +b"]);
    office.acknowledge(&present("b"));
    office.until(secs(3_000));
    assert_eq!(office.told(), [""; 0]);
}

#[test]
fn what_is_over_does_not_climb_and_is_called_off_only_where_it_was_told() {
    let mut office = Office::new(ladder());
    office.hear(present("a"));
    office.until(secs(650));
    office.hear(over("a"));
    office.until(secs(10_000));
    assert_eq!(
        office.told(),
        [
            "0 slack first +a",
            "600 pager escalation +a",
            "900 pager all_resolved -a",
            "900 slack all_resolved -a"
        ]
    );
}

#[test]
fn what_is_muted_climbs_in_silence_and_is_told_when_that_is_over() {
    let mut office = Office::new(ladder());
    office.hear(present("a"));
    office.until(secs(100));
    office.silence("quiet", "task=a", 100, 1_000);
    office.until(secs(1_000));
    assert_eq!(office.told(), ["0 slack first +a"]);
    office.until(secs(1_199));
    assert_eq!(office.told(), [""; 0]);
    office.until(secs(3_000));
    assert_eq!(office.told(), ["1200 pager first +a", "1200 phone escalation +a"]);
}

#[test]
fn what_was_muted_from_the_beginning_climbs_from_when_it_was_first_told() {
    let mut office = Office::new(ladder());
    office.silence("quiet", "task=a", 0, 100);
    office.hear(present("a"));
    office.until(secs(1_000));
    assert_eq!(office.told(), ["300 slack first +a", "900 pager escalation +a"]);
}

#[test]
fn each_alert_of_a_group_climbs_for_itself() {
    let mut office = Office::new(ladder());
    office.hear(present("a"));
    office.until(secs(10));
    office.hear(present("b"));
    office.until(secs(650));
    assert_eq!(
        office.told(),
        ["0 slack first +a", "300 slack new_alerts +a +b", "600 pager escalation +a"]
    );
    office.until(secs(950));
    assert_eq!(office.told(), ["900 pager escalation +a +b"]);
    office.acknowledge(&present("b"));
    office.until(secs(10_000));
    assert_eq!(office.told(), ["1200 phone escalation +a"]);
}

#[test]
fn a_channel_on_several_steps_is_called_on_each() {
    let mut office = Office::new(ladder());
    office.plan.route.escalation = vec![step(5, "slack"), step(10, "pager"), step(20, "pager")];
    office.hear(present("a"));
    office.until(secs(5_000));
    let told = office.told();
    assert_eq!(told[..2], ["0 slack first +a", "300 slack escalation +a"]);
    assert_eq!(told[2..], ["600 pager escalation +a", "1200 pager escalation +a"]);
}

#[test]
fn a_clock_that_jumps_over_several_steps_takes_them_all() {
    let mut office = Office::new(ladder());
    office.hear(present("a"));
    office.now = START + secs(5_000);
    office.work();
    let mut told = office.told();
    told.sort();
    assert_eq!(told, ["0 slack first +a", "5000 pager escalation +a", "5000 phone escalation +a"]);
}

#[test]
fn what_begins_anew_climbs_anew_and_nobody_has_it_in_hand() {
    let mut office = Office::new(ladder());
    office.hear(present("a"));
    office.until(secs(100));
    office.acknowledge(&present("a"));
    office.until(secs(110));
    office.hear(over("a"));
    office.until(secs(120));
    office.hear(present("a"));
    office.until(secs(899));
    assert_eq!(office.told(), ["0 slack first +a"]);
    office.until(secs(1_000));
    assert_eq!(office.told(), ["900 pager escalation +a"], "from 300 s, when its time came again");
}

#[test]
fn those_further_up_hear_the_end_of_what_began_anew_and_ended_before_its_time() {
    let mut office = Office::new(ladder());
    office.hear(happened("a"));
    office.until(secs(610));
    office.hear(over("a"));
    office.until(secs(620));
    office.hear(happened("a"));
    office.until(secs(630));
    office.hear(over("a"));
    office.until(secs(5_000));
    let last = |channel: &str| {
        let mut told = office.sent.iter().filter(|sent| sent.1.channel == channel);
        told.next_back().map(|sent| sent.1.notification.status)
    };
    assert_eq!(last("slack"), Some(gpulock_alerts::Status::Resolved));
    assert_eq!(last("pager"), Some(gpulock_alerts::Status::Resolved));
    assert_eq!(last("phone"), None);
}

#[test]
fn only_what_fires_can_be_acknowledged_and_by_the_first_one() {
    let mut office = Office::new(ladder());
    office.hear(present("a"));
    office.hear(present("b"));
    let word = |by: &str| Acknowledgement {
        by: by.to_owned(),
        at: START + secs(1),
        note: "on it".to_owned(),
    };
    let id = present("a").labels.fingerprint();
    assert_eq!(office.book.acknowledge(&id.as_str()[..12], word("anna")), Ok(id.clone()));
    assert_eq!(office.book.acknowledge(id.as_str(), word("ben")), Ok(id.clone()));
    let view = &office.book.view(office.now, &office.plan);
    let view = view.iter().find(|view| view.id == id.as_str()).expect("the alert");
    assert_eq!(view.acknowledged.as_ref().map(|word| word.by.as_str()), Some("anna"));
    let unknown = |id: &str| Err(Unknown::Alert(id.to_owned()));
    assert_eq!(office.book.acknowledge("", word("anna")), unknown(""));
    assert_eq!(office.book.acknowledge("xyz", word("anna")), unknown("xyz"));
    office.hear(over("a"));
    let gone = office.book.acknowledge(id.as_str(), word("anna"));
    assert_eq!(gone, Err(Unknown::Over(id.to_string())));
}
