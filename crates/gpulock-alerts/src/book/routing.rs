//! Which routes an alert goes.

use std::collections::BTreeMap;

use gpulock::core::alert::Labels;

use crate::plan::{Plan, Route};

/// Names the route where the way of every alert begins.
const ROOT: &str = "{}";

/// A route that an alert goes, and the group that it belongs to there.
pub(super) struct Way<'p> {
    pub(super) route: &'p Route,
    /// Names the route within the plan.
    pub(super) path: String,
    pub(super) group_key: String,
    pub(super) group_labels: Labels,
}

/// The routes that an alert with these labels goes: the deepest that match, one of each level
/// unless it `continues`.
pub(super) fn ways<'p>(plan: &'p Plan, labels: &Labels) -> Vec<Way<'p>> {
    let mut found = Vec::new();
    descend(&plan.route, ROOT.to_owned(), labels, &mut found);
    let way = |(route, path): (&'p Route, String)| {
        let group_labels = match route.groups_by_all() {
            true => labels.clone(),
            false => labels.only(&route.group_by),
        };
        Way { route, group_key: format!("{path}:{{{group_labels}}}"), path, group_labels }
    };
    found.into_iter().map(way).collect()
}

/// All routes of a plan, by what names them.
pub(super) fn routes(plan: &Plan) -> BTreeMap<String, &Route> {
    let mut found = BTreeMap::new();
    let mut open = vec![(ROOT.to_owned(), &plan.route)];
    while let Some((path, route)) = open.pop() {
        let children = route.routes.iter().enumerate();
        open.extend(children.map(|(place, child)| (path_of(&path, place, child), child)));
        found.insert(path, route);
    }
    found
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
            descend(child, path_of(&path, place, child), labels, found);
            if !child.continues {
                break;
            }
        }
    }
    if found.len() == before {
        found.push((route, path));
    }
}

fn path_of(parent: &str, place: usize, child: &Route) -> String {
    let matchers: Vec<_> = child.matchers.iter().map(ToString::to_string).collect();
    format!("{parent}/{{{}}}/{place}", matchers.join(","))
}
