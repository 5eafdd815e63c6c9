//! What events and figures mean for alerts: told through the steps of a pool.

use std::collections::BTreeMap;

use gpulock_core::alert::{
    Adjustment, Change, Findings, Fingerprint, Labels, RULES, Rules, Signal, Source, Urgency,
    conditions, rule, signals,
};
use gpulock_core::health::Outcomes;
use gpulock_core::{
    CancelReason, Command, Incident, Lease, Party, PoolName, Raised, Reply, SeizeMode, Step, Watch,
    What,
};

use crate::rules::support::*;

const PRESENT: Change = Change::Present;
const GOES_ON: Change = Change::Happened { lasts: true };
const ONCE: Change = Change::Happened { lasts: false };

fn pool() -> PoolName {
    "default".parse().expect("a name")
}

fn told_with(step: &Step, rules: &Rules) -> Vec<Signal> {
    step.events.iter().flat_map(|event| signals(&pool(), event, rules)).collect()
}

fn told(step: &Step) -> Vec<Signal> {
    told_with(step, &Rules::default())
}

/// The rules of signals and what they say.
fn words(signals: &[Signal]) -> Vec<(&str, Change)> {
    signals.iter().map(|signal| (signal.labels.value(Labels::RULE), signal.change)).collect()
}

/// The rules that a step says are over.
fn over(step: &Step) -> Vec<String> {
    let told = told(step).into_iter().filter(|signal| signal.change == Change::Over);
    told.map(|signal| signal.labels.value(Labels::RULE).to_owned()).collect()
}

/// What a step says has begun or happened.
fn begun(step: &Step) -> Vec<(String, Change)> {
    let told = told(step).into_iter().filter(|signal| signal.change != Change::Over);
    told.map(|signal| (signal.labels.value(Labels::RULE).to_owned(), signal.change)).collect()
}

fn patrol(desk: &mut Desk, watch: Watch) -> Step {
    desk.step(Command::Patrol { watch, sight: beta() })
}

fn grow(desk: &mut Desk, lease: &Lease, seconds: u64) {
    for _ in 0..seconds / 10 {
        desk.pass(secs(10));
        desk.renew(lease);
    }
}

const OF_HOLDING: [&str; 3] =
    ["GPU_LOCK_LONG_HELD", "GPU_LOCK_SOFT_TIMEOUT", "GPU_LOCK_HARD_TIMEOUT"];
const ALL_OF_A_LEASE: [&str; 6] = [
    "GPU_LOCK_LONG_HELD",
    "GPU_LOCK_SOFT_TIMEOUT",
    "GPU_LOCK_HARD_TIMEOUT",
    "GPU_LOCK_HOLDER_LOST",
    "GPU_LOCK_ZOMBIE",
    "GPU_LOCK_NOT_RECOVERED",
];

#[test]
fn each_level_of_a_lease_held_for_long_is_told_once_and_over_when_it_is_given_back() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let only_looks = Watch { recovers: false, ..watch() };
    let levels = [
        ("GPU_LOCK_LONG_HELD", PRESENT, Urgency::Warning, "20"),
        ("GPU_LOCK_SOFT_TIMEOUT", PRESENT, Urgency::P2, "40"),
        ("GPU_LOCK_HARD_TIMEOUT", GOES_ON, Urgency::P1, "60"),
    ];
    for (name, change, urgency, held) in levels {
        grow(&mut desk, &lease, 20);
        let found = told(&patrol(&mut desk, only_looks.clone()));
        assert_eq!(words(&found), [(name, change)]);
        assert_eq!((found[0].urgency, found[0].at), (urgency, desk.now));
        let labels = Labels::default()
            .with("alertname", name)
            .with("pool", "default")
            .with("gpu", "0")
            .with("task", "work 1");
        assert_eq!(found[0].labels, labels);
        let facts = ["held_seconds", "host", "lease_id", "pid"].map(|name| &found[0].facts[name]);
        assert_eq!(facts, [held, "gpu1", &lease.lease_id.to_string(), "1001"]);
        assert_eq!(told(&patrol(&mut desk, only_looks.clone())), [], "a second time");
    }
    let step = desk.release(&lease);
    assert_eq!(begun(&step), []);
    assert_eq!(over(&step), OF_HOLDING);
}

#[test]
fn what_is_over_is_the_alert_that_had_begun() {
    let mut desk = Desk::with_gpus(2);
    let lease = desk.take(&work(1).any(2));
    grow(&mut desk, &lease, 20);
    let begun = told(&patrol(&mut desk, watch()));
    assert_eq!(begun[0].labels.value("gpu"), "0,1");
    let over = told(&desk.release(&lease));
    assert!(over.iter().any(|signal| signal.labels == begun[0].labels));
}

#[test]
fn a_seized_lease_is_told_until_its_processes_are_gone() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.queue(&work(2).patient(1_000));
    grow(&mut desk, &lease, 60);
    let step = patrol(&mut desk, watch());
    assert_eq!(begun(&step), [("GPU_LOCK_HARD_TIMEOUT".to_owned(), GOES_ON)]);
    assert_eq!(over(&step), Vec::<String>::new(), "its processes still use the GPU");
    let look = |desk: &mut Desk| {
        desk.pass(secs(10));
        desk.see(&lease, Seen::AllAlive);
        told(&patrol(desk, watch()))
    };
    for tries in ["1", "2"] {
        let found = look(&mut desk);
        assert_eq!(words(&found), [("GPU_LOCK_ZOMBIE", PRESENT)]);
        assert_eq!(found[0].facts["tries"], tries);
    }
    let found = look(&mut desk);
    assert_eq!(words(&found), [("GPU_LOCK_NOT_RECOVERED", GOES_ON)]);
    assert_eq!((found[0].urgency, found[0].facts["tries"].as_str()), (Urgency::P0, "3"));
    let step = desk.see(&lease, Seen::Nothing);
    assert_eq!(over(&step), ALL_OF_A_LEASE);
}

#[test]
fn what_drains_is_over_too_when_somebody_frees_it_by_force() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.seize(&lease, SeizeMode::Drain);
    let step = desk.seize(&lease, SeizeMode::IgnoreProcesses);
    assert_eq!(over(&step), ALL_OF_A_LEASE);
}

#[test]
fn a_holder_that_dies_and_leaves_nothing_is_told_once() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.pass(secs(7));
    let step = desk.see(&lease, Seen::Nothing);
    assert_eq!(begun(&step), [("GPU_LOCK_HOLDER_LOST".to_owned(), ONCE)]);
    let facts = &told(&step)[0].facts;
    assert_eq!(
        (facts["cause"].as_str(), facts["held_seconds"].as_str()),
        ("its process died", "7")
    );
    assert_eq!(over(&step), OF_HOLDING, "that it was lost is over by itself");
}

#[test]
fn a_holder_that_dies_and_leaves_processes_is_told_until_they_are_gone() {
    let mut desk = Desk::with_gpus(1);
    let request = work(1).supervised();
    let lease = desk.take(&request);
    desk.claim(&lease);
    let step = desk.see(&lease, Seen::GroupAlone);
    assert_eq!(begun(&step), [("GPU_LOCK_HOLDER_LOST".to_owned(), GOES_ON)]);
    assert_eq!(over(&step), Vec::<String>::new());
    let step = desk.see(&lease, Seen::Nothing);
    assert_eq!(begun(&step), []);
    assert_eq!(over(&step), ALL_OF_A_LEASE);
}

#[test]
fn a_holder_that_goes_silent_is_told() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1).seen_from(None));
    desk.pass(secs(30));
    let step = desk.tick();
    assert_eq!(begun(&step), [("GPU_LOCK_HOLDER_LOST".to_owned(), ONCE)]);
    assert_eq!(told(&step)[0].facts["cause"], "no heartbeat came in time");
    assert!(!told(&step)[0].facts.contains_key("pid"), "nobody knows it");
}

#[test]
fn grants_releases_queues_and_grants_not_picked_up_are_nothing_to_tell() {
    let mut desk = Desk::with_gpus(1);
    let mut steps = vec![desk.step(Command::Acquire(work(1)))];
    let lease = desk.lease(&work(1)).expect("a lease");
    steps.push(desk.step(Command::Acquire(work(2))));
    steps.push(desk.step(Command::Acquire(work(3))));
    steps.push(desk.cancel(&work(3)));
    steps.push(desk.ask_to_stop(&lease));
    steps.push(desk.release(&lease));
    desk.pass(secs(3_600));
    steps.push(desk.tick());
    let expired = |what: &What| matches!(what, What::Ended { .. });
    assert!(steps[6].events.iter().any(|event| expired(&event.what)), "{:?}", steps[6].events);
    steps.push(desk.configure(2));
    steps.push(resume(&mut desk));
    assert_eq!(steps.iter().flat_map(begun).collect::<Vec<_>>(), []);
}

fn resume(desk: &mut Desk) -> Step {
    let closed_until = desk.now + secs(30);
    desk.step(Command::Resume { incarnation: "second".to_owned(), closed_until })
}

#[test]
fn a_lease_that_somebody_takes_away_is_no_lost_holder() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    assert_eq!(begun(&desk.seize(&lease, SeizeMode::IgnoreProcesses)), []);
}

#[test]
fn emergency_releases_and_critical_failures_are_told_and_lesser_incidents_are_not() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    let mut report = |incident| {
        let (error, party) = ("no answer".to_owned(), Party::from(&held));
        told(&desk.step(Command::Report { incident, error, party }))
    };
    assert_eq!(report(Incident::NormalReleaseFailure), []);
    assert_eq!(report(Incident::ReleaseScriptError), []);
    for (incident, name, urgency) in [
        (Incident::EmergencyRelease, "gpu_lock_emergency_release", Urgency::P1),
        (Incident::CriticalFailure, "gpu_lock_critical_failure", Urgency::P0),
    ] {
        let found = report(incident);
        assert_eq!(words(&found), [(name, ONCE)]);
        assert_eq!((found[0].urgency, found[0].facts["error"].as_str()), (urgency, "no answer"));
        assert_eq!(found[0].labels.value("task"), "work 1");
    }
}

fn raised(name: &str, urgency: Urgency) -> Raised {
    Raised {
        name: name.parse().expect("a name"),
        urgency,
        message: "accuracy fell to 12 %".to_owned(),
        facts: [("epoch", "7"), ("host", "elsewhere")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

#[test]
fn what_a_program_raises_is_remembered_and_told_in_its_words() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    let before = desk.view();
    let alert = raised("ACCURACY_LOW", Urgency::P2);
    let step = desk.step(Command::Raise { alert: alert.clone(), party: Some(Party::from(&held)) });
    assert_eq!(step.reply, Reply::Done);
    assert!(matches!(&step.events[..], [event] if event.what == What::Raised { alert }));
    assert_eq!((desk.view().leases, desk.free()), (before.leases, vec![]), "no lease changes");
    let found = told(&step);
    assert_eq!(words(&found), [("ACCURACY_LOW", ONCE)]);
    assert_eq!((found[0].urgency, found[0].labels.value("task")), (Urgency::P2, "work 1"));
    let facts = ["epoch", "message", "host"].map(|name| found[0].facts[name].as_str());
    assert_eq!(
        facts,
        ["7", "accuracy fell to 12 %", "gpu1"],
        "where it runs is no matter of words"
    );
}

#[test]
fn a_program_without_lease_raises_alerts_too() {
    let mut desk = Desk::with_gpus(1);
    let alert = raised("DISK_FULL", Urgency::Info);
    let found = told(&desk.step(Command::Raise { alert, party: None }));
    let labels = Labels::default().with("alertname", "DISK_FULL").with("pool", "default");
    assert_eq!(found[0].labels, labels);
    assert_eq!(found[0].facts["host"], "elsewhere");
}

#[test]
fn a_raised_alert_survives_the_journal() {
    let mut desk = Desk::with_gpus(1);
    let alert = raised("训练 stalled", Urgency::P0);
    let step = desk.step(Command::Raise { alert, party: None });
    let json = serde_json::to_string(&step.events).expect("JSON");
    assert!(json.contains("\"event\":\"raised\"") && json.contains("\"P0\""), "{json}");
    let read: Vec<gpulock_core::Event> = serde_json::from_str(&json).expect("events");
    assert_eq!(read, step.events);
}

fn adjusted(name: &str, adjustment: Adjustment) -> Rules {
    Rules::adjusted([(name.to_owned(), adjustment)].into())
}

#[test]
fn rules_can_be_switched_off_and_made_more_or_less_urgent() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let step = desk.see(&lease, Seen::Nothing);
    let off = adjusted("GPU_LOCK_HOLDER_LOST", Adjustment { is_off: true, ..<_>::default() });
    let found = told_with(&step, &off);
    assert!(found.iter().all(|signal| signal.change == Change::Over), "{found:?}");
    let urgent = Adjustment { urgency: Some(Urgency::P0), ..<_>::default() };
    let found = told_with(&step, &adjusted("GPU_LOCK_HOLDER_LOST", urgent));
    assert_eq!(found[0].urgency, Urgency::P0);
    let alert = raised("MINE", Urgency::P2);
    let step = desk.step(Command::Raise { alert, party: None });
    assert_eq!(told_with(&step, &adjusted("MINE", urgent))[0].urgency, Urgency::P0);
    let off = Adjustment { is_off: true, ..<_>::default() };
    assert_eq!(told_with(&step, &adjusted("MINE", off)), []);
}

/// Findings about a desk where nothing else is known.
struct Look {
    desk: Desk,
    recent: Outcomes,
    silent: Option<f64>,
    an_hour: (u64, u64),
}

impl Look {
    fn at(desk: &Desk) -> Self {
        let recent = Outcomes::default();
        Self { desk: desk.clone(), recent, silent: None, an_hour: (0, 0) }
    }

    fn finds(&self, rules: &Rules) -> Vec<Signal> {
        let findings = Findings {
            name: &pool(),
            pool: &self.desk.view(),
            waiters: &self.desk.waiting(),
            now: self.desk.now,
            recent: self.recent,
            levels: watch().levels,
            heartbeat_failure_rate: self.silent,
            emergency_releases: self.an_hour.0,
            ownership_violations: self.an_hour.1,
        };
        conditions(&findings, rules)
    }

    fn names(&self) -> Vec<String> {
        let found = self.finds(&Rules::default());
        assert!(found.iter().all(|signal| signal.change == Change::Present));
        found.iter().map(|signal| signal.labels.value(Labels::RULE).to_owned()).collect()
    }
}

#[test]
fn a_pool_in_which_all_is_well_has_no_conditions() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    desk.queue(&work(2));
    assert_eq!(Look::at(&desk).names(), Vec::<String>::new());
}

#[test]
fn a_deadlock_begins_and_is_over_when_the_gpu_is_taken_back() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.queue(&work(2).patient(1_000));
    desk.pass(secs(30));
    desk.tick();
    assert_eq!(Look::at(&desk).names(), Vec::<String>::new(), "somebody is about to look");
    desk.pass(secs(5));
    let found = Look::at(&desk).finds(&Rules::default());
    assert_eq!(words(&found), [("GPU_LOCK_DEADLOCK_DETECTED", PRESENT)]);
    let labels = ["pool", "gpu", "task"].map(|name| found[0].labels.value(name));
    assert_eq!(labels, ["default", "0", "work 1"], "it names who keeps the GPU");
    assert_eq!(found[0].facts["lease_id"], lease.lease_id.to_string());
    assert_eq!((found[0].urgency, found[0].facts["host"].as_str()), (Urgency::P1, "gpu1"));
    desk.see(&lease, Seen::Nothing);
    assert_eq!(Look::at(&desk).names(), Vec::<String>::new());
}

#[test]
fn rates_say_nothing_as_long_as_there_are_too_few_requests() {
    let mut look = Look::at(&Desk::with_gpus(1));
    look.recent = Outcomes { granted: 0, timed_out: 4, left: 0 };
    assert_eq!(look.names(), Vec::<String>::new());
    look.recent.timed_out = 5;
    assert_eq!(look.names(), ["GPU_LOCK_TIMEOUT_RATE_HIGH", "GPU_LOCK_SUCCESS_RATE_LOW"]);
}

#[test]
fn rates_fire_beyond_their_thresholds_and_not_at_them() {
    let mut look = Look::at(&Desk::with_gpus(1));
    look.recent = Outcomes { granted: 90, timed_out: 10, left: 0 };
    assert_eq!(look.names(), Vec::<String>::new());
    look.recent = Outcomes { granted: 899, timed_out: 0, left: 101 };
    assert_eq!(look.names(), ["GPU_LOCK_SUCCESS_RATE_LOW"]);
    let found = look.finds(&Rules::default());
    assert_eq!((found[0].urgency, found[0].facts["value"].as_str()), (Urgency::P1, "89.9 %"));
    look.recent = Outcomes { granted: 899, timed_out: 101, left: 0 };
    assert_eq!(look.names(), ["GPU_LOCK_TIMEOUT_RATE_HIGH", "GPU_LOCK_SUCCESS_RATE_LOW"]);
}

#[test]
fn many_silent_tasks_emergency_releases_and_violations_are_conditions() {
    let mut look = Look::at(&Desk::with_gpus(1));
    (look.silent, look.an_hour) = (Some(0.05), (10, 100));
    assert_eq!(look.names(), Vec::<String>::new(), "at the thresholds");
    (look.silent, look.an_hour) = (Some(0.051), (11, 101));
    let names = [
        "HEARTBEAT_FAILURE_RATE_HIGH",
        "GPU_LOCK_EMERGENCY_RELEASES_HIGH",
        "GPU_LOCK_OWNERSHIP_VIOLATIONS_HIGH",
    ];
    assert_eq!(look.names(), names);
    let found = look.finds(&Rules::default());
    let facts: Vec<_> = found.iter().map(|signal| signal.facts["value"].as_str()).collect();
    assert_eq!(facts, ["5.1 %", "11", "101"]);
    assert_eq!(found[1].urgency, Urgency::P0);
    look.silent = None;
    assert_eq!(look.names(), names[1..], "too few to say");
}

#[test]
fn a_request_that_waits_for_long_is_a_condition_until_it_is_served() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1).fixed(5_000));
    desk.queue(&work(2).patient(10_000));
    desk.pass(secs(1));
    desk.queue(&work(3).patient(10_000));
    let rules =
        adjusted("GPU_LOCK_WAIT_TIME_HIGH", Adjustment { threshold: Some(30.0), ..<_>::default() });
    desk.pass(secs(29));
    assert_eq!(Look::at(&desk).finds(&rules), []);
    desk.pass(secs(1));
    let found = Look::at(&desk).finds(&rules);
    assert_eq!(words(&found), [("GPU_LOCK_WAIT_TIME_HIGH", PRESENT)]);
    let facts = ["value", "waiting_task"].map(|name| found[0].facts[name].as_str());
    assert_eq!(facts, ["31 s", "work 2"], "the one that waits longest");
    assert_eq!(found[0].labels.value("task"), "", "one alert for the whole pool");
    desk.release(&lease);
    desk.cancel(&work(3));
    assert_eq!(Look::at(&desk).finds(&rules), []);
}

#[test]
fn a_closed_pool_is_a_condition_until_it_opens() {
    let mut desk = Desk::with_gpus(1);
    resume(&mut desk);
    desk.pass(secs(10));
    let found = Look::at(&desk).finds(&Rules::default());
    assert_eq!(words(&found), [("GPU_LOCK_POOL_CLOSED", PRESENT)]);
    assert_eq!(found[0].facts["opens_in_seconds"], "20");
    desk.pass(secs(20));
    assert_eq!(Look::at(&desk).names(), Vec::<String>::new());
}

#[test]
fn thresholds_urgency_and_switches_of_conditions_can_be_adjusted() {
    let mut look = Look::at(&Desk::with_gpus(1));
    look.recent = Outcomes { granted: 80, timed_out: 20, left: 0 };
    let calm = |threshold| Adjustment { threshold: Some(threshold), ..<_>::default() };
    let rules = Rules::adjusted(BTreeMap::from([
        ("GPU_LOCK_TIMEOUT_RATE_HIGH".to_owned(), calm(0.2)),
        ("GPU_LOCK_SUCCESS_RATE_LOW".to_owned(), calm(0.8)),
    ]));
    assert_eq!(look.finds(&rules), []);
    look.recent.timed_out = 21;
    let names = ["GPU_LOCK_TIMEOUT_RATE_HIGH", "GPU_LOCK_SUCCESS_RATE_LOW"];
    assert_eq!(words(&look.finds(&rules)), names.map(|name| (name, PRESENT)));
    let rules = Rules::adjusted(BTreeMap::from([
        (names[0].to_owned(), Adjustment { is_off: true, ..<_>::default() }),
        (names[1].to_owned(), Adjustment { urgency: Some(Urgency::Info), ..<_>::default() }),
    ]));
    let found = look.finds(&rules);
    assert_eq!(words(&found), [(names[1], PRESENT)]);
    assert_eq!(found[0].urgency, Urgency::Info);
}

#[test]
fn the_catalogue_names_each_rule_once_and_says_what_to_do() {
    for (place, one) in RULES.iter().enumerate() {
        assert_eq!(rule(one.name), Some(one));
        assert!(RULES[..place].iter().all(|other| other.name != one.name), "{}", one.name);
        assert!(one.summary.ends_with('.') && one.description.ends_with('.'), "{}", one.name);
        assert!(!one.summary.contains('{'), "a summary is a fixed sentence: {}", one.name);
        assert_eq!(one.threshold.is_some(), !one.unit.is_empty(), "{}", one.name);
    }
    assert_eq!(rule("SOMETHING_ELSE"), None);
    let rules = Rules::default();
    assert!(rules.threshold("SOMETHING_ELSE").is_infinite());
    assert_eq!(rules.urgency("SOMETHING_ELSE", Urgency::P2), Urgency::P2);
    assert_eq!(rule("MONITOR_SERVICE_DOWN").map(|rule| rule.source), Some(Source::Daemon));
}

#[test]
fn urgencies_are_ordered_and_read_as_people_write_them() {
    use Urgency::{Info, P0, P1, P2, Warning};
    assert_eq!(Urgency::ALL, [Info, Warning, P2, P1, P0]);
    assert!(Urgency::ALL.is_sorted());
    for urgency in Urgency::ALL {
        assert_eq!(urgency.to_string().parse(), Ok(urgency));
        assert_eq!(urgency.as_str().to_uppercase().parse(), Ok(urgency));
        assert_eq!(urgency.as_str().to_lowercase().parse(), Ok(urgency));
        let json = serde_json::to_string(&urgency).expect("JSON");
        assert_eq!(json, format!("\"{urgency}\""));
        assert_eq!(serde_json::from_str::<Urgency>(&json).expect("an urgency"), urgency);
    }
    for wrong in ["", "P3", "P", "critical", " P0", "P00"] {
        let error = wrong.parse::<Urgency>().expect_err("no urgency");
        assert_eq!(error.to_string(), format!("`{wrong}` is none of P0, P1, P2, warning and info"));
    }
    let error = "界".repeat(1_000).parse::<Urgency>().expect_err("no urgency").to_string();
    assert!(error.chars().count() < 100, "{error}");
}

#[test]
fn a_label_without_value_is_no_label() {
    let labels = Labels::default().with("gpu", "0").with("task", "").with("gpu", "");
    assert_eq!(labels, Labels::default());
    assert_eq!(labels.value("gpu"), "");
    let labels = Labels::default().with("gpu", "0").with("gpu", "1").with("alertname", "A \"b\"");
    assert_eq!(labels.to_string(), r#"alertname="A \"b\"" gpu="1""#);
    assert_eq!(labels.only(&["gpu", "pool"]), Labels::default().with("gpu", "1"));
}

#[test]
fn labels_that_all_have_are_common() {
    let one = Labels::default().with("alertname", "A").with("pool", "p").with("gpu", "0");
    let other = Labels::default().with("alertname", "A").with("pool", "q");
    assert_eq!(Labels::common([&one, &other]), Labels::default().with("alertname", "A"));
    assert_eq!(Labels::common([&one]), one);
    assert_eq!(Labels::common([]), Labels::default());
}

/// The numbers are those of Prometheus' own tests (`prometheus/common`, `model/signature_test.go`)
/// and of a second implementation.
#[test]
fn fingerprints_are_those_of_prometheus() {
    let print = |labels: &[(&str, &str)]| {
        labels.iter().copied().collect::<Labels>().fingerprint().to_string()
    };
    assert_eq!(print(&[]), format!("{:016x}", 14_695_981_039_346_656_037_u64));
    let two = [("name", "garland, briggs"), ("fear", "love is not enough")];
    assert_eq!(print(&two), format!("{:016x}", 5_799_056_148_416_392_346_u64));
    let zombie = [("alertname", "GPU_LOCK_ZOMBIE"), ("pool", "default")];
    assert_eq!(print(&zombie), "31afa1cc018006d4");
    let lost = [
        ("alertname", "GPU_LOCK_HOLDER_LOST"),
        ("gpu", "0"),
        ("pool", "default"),
        ("task", "训练 été"),
    ];
    assert_eq!(print(&lost), "277d3a7817641ade");
}

#[test]
fn a_fingerprint_does_not_change_with_the_severity_and_with_nothing_else_stays() {
    let labels = Labels::default().with("alertname", "A").with("pool", "p");
    let severe = labels.clone().with(Labels::SEVERITY, "P0");
    assert_eq!(severe.fingerprint(), labels.fingerprint());
    assert_eq!(labels.fingerprint(), Fingerprint::from(labels.fingerprint().as_str()));
    for other in [
        labels.clone().with("pool", "q"),
        labels.clone().with("gpu", "0"),
        labels.clone().with("pool", ""),
        Labels::default().with("alertname", "Ap").with("ool", "p"),
    ] {
        assert_ne!(other.fingerprint(), labels.fingerprint(), "{other}");
    }
}

/// Requests that gave up count for the rate as the journal has them.
#[test]
fn rates_come_from_what_happened() {
    let mut desk = Desk::with_gpus(1);
    let mut events = desk.step(Command::Acquire(work(1))).events;
    for id in 2..7 {
        desk.queue(&work(id));
        let (lease_id, reason) = (work(id).lease_id, CancelReason::TimedOut);
        events.extend(desk.step(Command::Cancel { lease_id, run: None, reason, polls: 0 }).events);
    }
    events.reverse();
    let mut look = Look::at(&desk);
    look.recent = Outcomes::of_latest(&events, 5);
    let found = look.finds(&Rules::default());
    assert_eq!(found[0].facts["value"], "100.0 %");
    assert_eq!(found[1].facts["value"], "0.0 %");
}
