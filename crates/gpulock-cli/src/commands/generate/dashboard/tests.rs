use std::collections::BTreeSet;

use super::*;

/// What every query of the board asks, with values in the place of variables.
pub(in crate::commands::generate) fn expressions() -> Vec<String> {
    let board = dashboard();
    let annotations = board["annotations"]["list"].as_array().unwrap().iter();
    let annotations = annotations.map(|annotation| annotation["expr"].clone());
    let targets = pictures(&board).into_iter().flat_map(|panel| targets(&panel));
    let all = targets.map(|target| target["expr"].clone()).chain(annotations);
    let texts = all.map(|expression| expression.as_str().unwrap().to_owned());
    texts.map(|text| text.replace("$__rate_interval", "5m")).collect()
}

/// Panels that are no headings.
fn pictures(board: &Value) -> Vec<Value> {
    let panels = board["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").cloned().collect()
}

fn targets(panel: &Value) -> Vec<Value> {
    panel["targets"].as_array().unwrap().clone()
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_asks_something() {
    let known = ["short", "percentunit", "s", "ops", "reqps"];
    for panel in pictures(&dashboard()) {
        let title = panel["title"].as_str().unwrap();
        let description = panel["description"].as_str().unwrap();
        assert!(!title.is_empty() && description.ends_with('.'), "{panel:#}");
        assert!(known.contains(&panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap()));
        assert!(!targets(&panel).is_empty(), "{title} asks nothing");
        assert_eq!(panel["datasource"], panel::datasource());
        for target in targets(&panel) {
            assert_eq!(target["datasource"], panel::datasource(), "{title}");
            assert!(!target["refId"].as_str().unwrap().is_empty());
        }
    }
}

#[test]
fn every_selector_follows_the_variables() {
    let mut selectors = 0;
    for panel in pictures(&dashboard()) {
        for target in targets(&panel) {
            let expression = target["expr"].as_str().unwrap();
            assert!(
                !expression.contains("{POOL") && !expression.contains("{DAEMON"),
                "{expression}"
            );
            for after in expression.replace("gpulock_", "gpu_lock_").split("gpu_lock_").skip(1) {
                let (name, selector) = after.split_once('{').expect("a selector");
                let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
                assert!(name.chars().all(is_name), "a metric without selector: {expression}");
                let variables = "job=~\"$job\", instance=~\"$instance\"";
                assert!(selector.starts_with(variables), "{expression}");
                selectors += 1;
            }
            let legend = target["legendFormat"].as_str().unwrap();
            let is_apart = legend.contains("{{instance}}") || !expression.contains("instance,");
            assert!(is_apart || panel["type"] == "table", "instances look alike: {expression}");
        }
    }
    assert!(selectors > 40, "only {selectors} selectors were found");
}

#[test]
fn rates_are_taken_over_the_interval_that_grafana_works_out() {
    for panel in pictures(&dashboard()) {
        for target in targets(&panel) {
            let expression = target["expr"].as_str().unwrap();
            let ranges = expression.split('[').skip(1);
            for range in ranges {
                assert!(range.starts_with("$__rate_interval]"), "{expression}");
            }
        }
    }
}

#[test]
fn variables_choose_source_job_instance_and_pool() {
    let board = dashboard();
    let variables = board["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance", "pool"]);
    assert_eq!(variables[0]["type"], "datasource");
    for variable in &variables[1..] {
        assert_eq!(variable["type"], "query");
        assert_eq!((&variable["multi"], &variable["includeAll"]), (&json!(true), &json!(true)));
        assert_eq!(variable["refresh"], 2);
    }
    assert_eq!((&board["editable"], &board["uid"]), (&json!(false), &json!("gpulock")));
    assert_eq!(board["__inputs"], Value::Null);
}

#[test]
fn panels_have_numbers_of_their_own_and_do_not_overlap() {
    let board = dashboard();
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{} is too wide", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} covers another panel", panel["title"]);
        }
    }
}

#[test]
fn rows_are_in_their_order() {
    let board = dashboard();
    let rows = board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] == "row");
    let titles: Vec<_> = rows.map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(
        titles,
        [
            "Overview",
            "GPUs",
            "Waiting",
            "Holding",
            "Timeouts and recoveries",
            "Exceptions",
            "Heartbeats",
            "Alerts and messages",
            "Store and monitor",
        ]
    );
}
