//! Which routes an alert goes.

use gpulock::core::alert::Labels;

use crate::plan::{Plan, Route};

/// A route that an alert goes, and the group that it belongs to there.
pub(super) struct Way<'p> {
    pub(super) route: &'p Route,
    pub(super) group_key: String,
    pub(super) group_labels: Labels,
}

/// The routes that an alert with these labels goes: the deepest that match, one of each level
/// unless it `continues`.
pub(super) fn ways<'p>(plan: &'p Plan, labels: &Labels) -> Vec<Way<'p>> {
    let mut found = Vec::new();
    descend(&plan.route, "{}".to_owned(), labels, &mut found);
    let way = |(route, path): (&'p Route, String)| {
        let group_labels = match route.groups_by_all() {
            true => labels.clone(),
            false => labels.only(&route.group_by),
        };
        Way { route, group_key: format!("{path}:{{{group_labels}}}"), group_labels }
    };
    found.into_iter().map(way).collect()
}

fn descend<'p>(
    route: &'p Route,
    path: String,
    labels: &Labels,
    found: &mut Vec<(&'p Route, String)>,
) {
    let before = found.len();
    for (place, child) in route.routes.iter().enumerate() {
        if child.matchers.iter().all(|matcher| matcher.matches(labels)) {
            let matchers: Vec<_> = child.matchers.iter().map(ToString::to_string).collect();
            let path = format!("{path}/{{{}}}/{place}", matchers.join(","));
            descend(child, path, labels, found);
            if !child.continues {
                break;
            }
        }
    }
    if found.len() == before {
        found.push((route, path));
    }
}
