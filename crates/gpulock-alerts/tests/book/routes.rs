//! Which routes alerts go, and with which others they are told.

use gpulock::core::alert::{Change, Signal, Urgency};
use gpulock_alerts::plan::Route;

use super::office::*;

fn with(urgency: Urgency, task: &str) -> Signal {
    Signal { urgency, ..present(task) }
}

#[test]
fn alerts_with_equal_values_of_some_labels_are_told_together() {
    for (group_by, expected) in [
        (vec!["alertname", "pool"], vec!["30 slack first +a +b", "30 slack first +c"]),
        (vec![], vec!["30 slack first +a +b +c"]),
        (vec!["gpu"], vec!["30 slack first +a +b +c"]),
        (vec!["task"], vec!["30 slack first +a", "30 slack first +b", "30 slack first +c"]),
        (
            vec![Route::ALL_LABELS],
            vec!["30 slack first +a", "30 slack first +b", "30 slack first +c"],
        ),
    ] {
        let mut plan = plan(&["slack"]);
        plan.route.group_by = names(&group_by);
        let mut office = Office::new(plan);
        office.hear(present("a"));
        office.hear(present("b"));
        office.hear(signal("GPU_LOCK_ZOMBIE", "c", Change::Present));
        office.until(secs(60));
        let labels: Vec<_> = office.sent.iter().map(|sent| &sent.1.notification).collect();
        assert!(labels.iter().all(|told| told.group_labels.iter().count()
            == if group_by == [Route::ALL_LABELS] {
                4
            } else {
                group_by.iter().filter(|name| **name != "gpu").count()
            }));
        let mut told = office.told();
        told.sort();
        assert_eq!(told, expected, "{group_by:?}");
    }
}

#[test]
fn the_first_child_that_matches_has_the_alert_and_its_children_come_first() {
    let mut plan = plan(&["root", "one", "two", "deep"]);
    let root = plan.route.clone();
    let mut one = route(&root, &["severity=~\"P0|P1\""], "one");
    one.routes = vec![route(&root, &["task=~\"deep.*\""], "deep")];
    plan.route.routes = vec![one, route(&root, &["pool=default"], "two")];
    plan.route.routes[1].routes = vec![route(&root, &["task=never"], "deep")];
    let mut office = Office::new(plan);
    office.hear(with(Urgency::P0, "a"));
    office.hear(with(Urgency::P1, "deep a"));
    office.hear(with(Urgency::P2, "deep b"));
    office.hear(Signal { labels: present("c").labels.with("pool", "x"), ..with(Urgency::P2, "c") });
    office.until(secs(60));
    let mut told = office.told();
    told.sort();
    assert_eq!(
        told,
        ["30 deep first +deep a", "30 one first +a", "30 root first +c", "30 two first +deep b"]
    );
}

#[test]
fn a_route_that_continues_lets_the_next_one_have_the_alert_too() {
    let mut plan = plan(&["root", "one", "two", "three"]);
    let root = plan.route.clone();
    let mut one = route(&root, &["pool=default"], "one");
    one.continues = true;
    plan.route.routes =
        vec![one, route(&root, &["pool=default"], "two"), route(&root, &["pool=default"], "three")];
    let mut office = Office::new(plan);
    office.hear(present("a"));
    office.until(secs(60));
    office
        .told()
        .iter()
        .for_each(|told| assert!(!told.contains("three") && !told.contains("root")));
    office.hear(over("a"));
    office.until(secs(400));
    let mut told = office.told();
    told.sort();
    assert_eq!(told, ["330 one all_resolved -a", "330 two all_resolved -a"]);
}

#[test]
fn a_route_without_channels_tells_nobody_and_what_happened_is_over_all_the_same() {
    let mut plan = plan(&["slack"]);
    plan.route.channels.clear();
    let mut office = Office::new(plan);
    office.hear(happened("a"));
    office.hear(over("a"));
    office.until(secs(3_600));
    assert_eq!(office.told(), [""; 0]);
    assert!(office.book.alerts().all(|(_, alert)| alert.is_over()));
    assert_eq!(office.book.next_due(&office.plan), None);
}

#[test]
fn a_channel_is_told_what_is_urgent_enough_for_it() {
    let mut plan = plan(&["slack", "pager"]);
    plan.route.channels = names(&["slack", "pager"]);
    plan.channels.get_mut("pager").expect("a channel").min_urgency = Urgency::P1;
    let mut office = Office::new(plan);
    office.hear(with(Urgency::P2, "a"));
    office.hear(with(Urgency::P1, "b"));
    office.until(secs(100));
    assert_eq!(office.told(), ["30 pager first +b", "30 slack first +a +b"]);
    office.hear(with(Urgency::P0, "a"));
    office.until(secs(400));
    assert_eq!(office.told(), ["330 pager new_alerts +a +b", "330 slack new_alerts +a +b"]);
}

#[test]
fn what_becomes_less_urgent_is_called_off_where_it_was_told() {
    let mut plan = plan(&["pager"]);
    plan.channels.get_mut("pager").expect("a channel").min_urgency = Urgency::P1;
    let mut office = Office::new(plan);
    office.hear(with(Urgency::P1, "a"));
    office.until(secs(100));
    office.hear(with(Urgency::Warning, "a"));
    office.until(secs(400));
    office.hear(over("a"));
    office.until(secs(700));
    assert_eq!(office.told(), ["30 pager first +a", "630 pager all_resolved -a"]);
}

#[test]
fn what_becomes_more_urgent_and_goes_another_way_is_called_off_on_both() {
    let mut plan = plan(&["slack", "pager"]);
    plan.route.routes = vec![route(&plan.route, &["severity=P0"], "pager")];
    let mut office = Office::new(plan);
    office.hear(with(Urgency::P2, "a"));
    office.until(secs(100));
    office.hear(with(Urgency::P0, "a"));
    office.until(secs(200));
    office.hear(over("a"));
    office.until(secs(1_000));
    assert_eq!(
        office.told(),
        [
            "30 slack first +a",
            "100 pager first +a",
            "330 slack all_resolved -a",
            "400 pager all_resolved -a"
        ]
    );
}

#[test]
fn what_goes_another_way_before_it_was_told_is_told_there_only() {
    let mut plan = plan(&["slack", "pager"]);
    plan.route.routes = vec![route(&plan.route, &["severity=P0"], "pager")];
    let mut office = Office::new(plan);
    office.hear(with(Urgency::P2, "a"));
    office.until(secs(10));
    office.hear(with(Urgency::P0, "a"));
    office.until(secs(1_000));
    assert_eq!(office.told(), ["30 pager first +a"]);
}

#[test]
fn a_message_names_the_most_urgent_and_counts_the_others() {
    let mut plan = plan(&["slack"]);
    plan.channels.get_mut("slack").expect("a channel").max_alerts = 2;
    let mut office = Office::new(plan);
    office.hear(with(Urgency::Info, "a"));
    office.until(secs(1));
    office.hear(with(Urgency::P0, "b"));
    office.until(secs(2));
    office.hear(with(Urgency::P2, "c"));
    office.hear(with(Urgency::P2, "c"));
    office.until(secs(60));
    let told = &office.sent[0].1.notification;
    assert_eq!((told.truncated_alerts, told.count), (1, 4));
    assert_eq!(office.told(), ["30 slack first +b +c"]);
}
