//! Who is told, and when: the section `alerts` of the configuration as the book needs it, without
//! anything of how channels reach people.

mod matcher;

use std::collections::BTreeMap;
use std::time::Duration;

use gpulock::core::alert::{Labels, Urgency};

pub use matcher::{Matcher, WrongMatcher};

/// Who is told, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The channels by their names.
    pub channels: BTreeMap<String, ChannelPlan>,
    /// Where the way of every alert begins. It has no matchers.
    pub route: Route,
    /// Which alerts keep others quiet.
    pub inhibitions: Vec<Inhibition>,
    /// Something that happened once, and not again for this long, counts as over.
    pub resolve_timeout: Duration,
}

/// What a channel is told, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPlan {
    /// Less urgent alerts are none of its business.
    pub min_urgency: Urgency,
    /// Whether it is told that something is over.
    pub send_resolved: bool,
    /// How fast messages may follow each other.
    pub rate: Rate,
    /// How many messages it may have in a calendar month; `None` is any number.
    pub monthly_budget: Option<u32>,
    /// How many alerts stand in one message; the others are counted.
    pub max_alerts: usize,
    /// How long the other side has to take a message.
    pub timeout: Duration,
    /// Whether it wants to hear of everything that fires again and again, as Alertmanager does.
    pub is_feed: bool,
}

/// So many messages in such a time, all at once or spread over it: a bucket of `messages` tokens
/// that is full again after `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many messages; at least one.
    pub messages: u32,
    /// In which time; longer than nothing.
    pub per: Duration,
}

/// Where alerts go, and in which groups and rhythm. What a child does not say it has from its
/// parent, so every route is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// What all hold for the alerts that come here.
    pub matchers: Vec<Matcher>,
    /// Who is told.
    pub channels: Vec<String>,
    /// The labels whose values make a group; [`Route::ALL_LABELS`] alone means every label.
    pub group_by: Vec<String>,
    /// How long a new group waits for more alerts.
    pub group_wait: Duration,
    /// How long news of a group wait after its last message.
    pub group_interval: Duration,
    /// After which time a group that still fires is told again; a multiple of `group_interval`.
    pub repeat_interval: Duration,
    /// Windows of time in which nobody is told.
    pub mute_times: Vec<String>,
    /// Who is told while nobody acknowledges, the soonest first.
    pub escalation: Vec<Step>,
    /// Whether the next route beside it may have the alert too.
    pub continues: bool,
    /// Routes for some of these alerts; the first that matches has it.
    pub routes: Vec<Self>,
}

/// Who is told when nobody has acknowledged for so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// After the first message of the group.
    pub after: Duration,
    /// Who is told then.
    pub channels: Vec<String>,
}

/// While an alert fires that all of `source` match, nobody is told of those that all of `target`
/// match and whose labels in `equal` have the same values.
#[derive(Clone, Debug, PartialEq)]
pub struct Inhibition {
    /// What keeps others quiet.
    pub source: Vec<Matcher>,
    /// What is kept quiet.
    pub target: Vec<Matcher>,
    /// Labels that both have with the same value; one that both lack is equal.
    pub equal: Vec<String>,
}

impl Inhibition {
    /// What needs no configuration: of what is said about one lease, only the worst is told.
    pub fn built_in() -> Vec<Self> {
        const WORSE: [(&str, &[&str]); 3] = [
            ("GPU_LOCK_SOFT_TIMEOUT", &["GPU_LOCK_LONG_HELD"]),
            ("GPU_LOCK_HARD_TIMEOUT", &["GPU_LOCK_LONG_HELD", "GPU_LOCK_SOFT_TIMEOUT"]),
            ("GPU_LOCK_NOT_RECOVERED", &["GPU_LOCK_ZOMBIE"]),
        ];
        let all = WORSE.iter().flat_map(|(source, targets)| {
            targets.iter().map(|target| Self {
                source: vec![Matcher::equal(Labels::RULE, *source)],
                target: vec![Matcher::equal(Labels::RULE, *target)],
                equal: ["pool", "gpu", "task"].map(str::to_owned).to_vec(),
            })
        });
        all.collect()
    }
}

impl Plan {
    /// Something that happened once counts as over after this long, if nobody says otherwise.
    pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
}

impl Default for Plan {
    /// Nobody is told.
    fn default() -> Self {
        Self {
            channels: BTreeMap::new(),
            route: Route::default(),
            inhibitions: Inhibition::built_in(),
            resolve_timeout: Self::RESOLVE_TIMEOUT,
        }
    }
}

impl Route {
    /// Stands in `group_by` for every label.
    pub const ALL_LABELS: &'static str = "...";

    /// Whether an alert with such labels makes a group of its own.
    pub fn groups_by_all(&self) -> bool {
        self.group_by.iter().any(|label| label == Self::ALL_LABELS)
    }
}

impl Default for Route {
    /// Alertmanager's rhythm, and a group for each rule and pool.
    fn default() -> Self {
        Self {
            matchers: Vec::new(),
            channels: Vec::new(),
            group_by: ["alertname", "pool"].map(str::to_owned).to_vec(),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(5 * 60),
            repeat_interval: Duration::from_secs(4 * 3600),
            mute_times: Vec::new(),
            escalation: Vec::new(),
            continues: false,
            routes: Vec::new(),
        }
    }
}
