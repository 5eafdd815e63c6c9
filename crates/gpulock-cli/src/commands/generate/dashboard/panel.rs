//! One panel, and where it stands.

use serde_json::{Value, json};

/// Units of the grid across.
const ACROSS: u32 = 24;

/// A heading and what stands below it.
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// One picture.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) kind: Kind,
    /// How Grafana calls the unit.
    pub(super) unit: &'static str,
    pub(super) targets: Vec<Target>,
    /// Of 24.
    pub(super) width: u32,
}

/// What is asked, and what the answer is called.
pub(super) struct Target {
    /// `{POOL}` and `{DAEMON}` stand for the selectors of the variables.
    pub(super) expression: &'static str,
    pub(super) legend: &'static str,
}

/// How it is drawn.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A large figure, the latest.
    Stat,
    /// A large figure that is bad when it is not 0.
    StatOfFaults,
    /// A large figure, 1 for yes and 0 for no.
    StatOfHealth,
    /// Lines over time.
    Lines,
    /// The state of each GPU over time.
    States,
    /// The buckets of a histogram over time.
    Heatmap,
    /// Labels and values, the latest.
    Table,
}

/// Where the next panel stands: from left to right, then in the next line.
#[derive(Default)]
pub(super) struct Place {
    id: u32,
    x: u32,
    y: u32,
    tallest: u32,
}

impl Place {
    fn next(&mut self, width: u32, height: u32) -> (u32, Value) {
        if self.x + width > ACROSS {
            self.begin_line();
        }
        let position = json!({"x": self.x, "y": self.y, "w": width, "h": height});
        self.id += 1;
        self.x += width;
        self.tallest = self.tallest.max(height);
        (self.id, position)
    }

    fn begin_line(&mut self) {
        self.y += self.tallest;
        (self.x, self.tallest) = (0, 0);
    }
}

/// The heading of a row, which can be folded.
pub(super) fn heading(title: &str, place: &mut Place) -> Value {
    place.begin_line();
    let (id, position) = place.next(ACROSS, 1);
    json!({"id": id, "type": "row", "title": title, "collapsed": false, "gridPos": position, "panels": []})
}

/// The one that is chosen at the top of the board.
pub(super) fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// `{POOL}` and `{DAEMON}` become the selectors of the variables, before further ones.
pub(super) fn with_selectors(expression: &str) -> String {
    const DAEMON: &str = "{job=~\"$job\", instance=~\"$instance\"";
    expression.replace("{POOL", &format!("{DAEMON}, pool=~\"$pool\"")).replace("{DAEMON", DAEMON)
}

impl Panel {
    pub(super) fn json(&self, place: &mut Place) -> Value {
        let (id, position) = place.next(self.width, self.kind.height());
        let letters = ('A'..='Z').map(String::from);
        let targets = self.targets.iter().zip(letters);
        let targets: Vec<_> = targets.map(|(target, id)| target.json(id, self.kind)).collect();
        let mut panel = json!({
            "id": id,
            "type": self.kind.plugin(),
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "gridPos": position,
            "targets": targets,
            "fieldConfig": {"defaults": self.kind.field_defaults(self.unit), "overrides": []},
            "options": self.kind.options(self.unit),
        });
        if let Kind::Table = self.kind {
            panel["transformations"] = json!([
                {"id": "organize", "options": {"excludeByName": {"Time": true, "__name__": true}}},
            ]);
        }
        panel
    }
}

impl Target {
    fn json(&self, id: String, kind: Kind) -> Value {
        let is_latest =
            matches!(kind, Kind::Stat | Kind::StatOfFaults | Kind::StatOfHealth | Kind::Table);
        let format = match kind {
            Kind::Heatmap => "heatmap",
            Kind::Table => "table",
            _ => "time_series",
        };
        json!({
            "refId": id,
            "datasource": datasource(),
            "expr": with_selectors(self.expression),
            "legendFormat": self.legend,
            "format": format,
            "instant": is_latest,
            "range": !is_latest,
        })
    }
}

impl Kind {
    const fn plugin(self) -> &'static str {
        match self {
            Self::Stat | Self::StatOfFaults | Self::StatOfHealth => "stat",
            Self::Lines => "timeseries",
            Self::States => "state-timeline",
            Self::Heatmap => "heatmap",
            Self::Table => "table",
        }
    }

    const fn height(self) -> u32 {
        match self {
            Self::Stat | Self::StatOfFaults | Self::StatOfHealth => 4,
            _ => 8,
        }
    }

    fn field_defaults(self, unit: &str) -> Value {
        let steps = |first: &str, second: &str| {
            json!({"mode": "absolute", "steps": [
                {"color": first, "value": null},
                {"color": second, "value": 1},
            ]})
        };
        let mut defaults = json!({"unit": unit});
        match self {
            Self::StatOfFaults => defaults["thresholds"] = steps("green", "red"),
            Self::StatOfHealth => {
                defaults["thresholds"] = steps("red", "green");
                defaults["mappings"] = mappings(&[("0", "no", "red"), ("1", "yes", "green")]);
            }
            Self::States => {
                defaults["custom"] = json!({"fillOpacity": 80, "lineWidth": 0});
                defaults["mappings"] = mappings(&[
                    ("0", "free", "green"),
                    ("1", "held", "blue"),
                    ("2", "stopping", "orange"),
                    ("3", "draining", "purple"),
                ]);
            }
            Self::Lines => {
                defaults["min"] = json!(0);
                defaults["custom"] = json!({"fillOpacity": 10, "showPoints": "never"});
            }
            Self::Stat | Self::Heatmap | Self::Table => {}
        }
        defaults
    }

    fn options(self, unit: &str) -> Value {
        let tooltip = json!({"mode": "multi", "sort": "desc"});
        match self {
            Self::Stat | Self::StatOfFaults | Self::StatOfHealth => json!({
                "colorMode": "value",
                "graphMode": "none",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            }),
            Self::Lines => json!({
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": tooltip,
            }),
            Self::States => json!({
                "mergeValues": true,
                "showValue": "auto",
                "rowHeight": 0.8,
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "single"},
            }),
            Self::Heatmap => json!({
                "calculate": false,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                "yAxis": {"unit": unit},
                "cellGap": 1,
                "tooltip": {"mode": "single", "yHistogram": true},
            }),
            Self::Table => json!({"showHeader": true, "cellHeight": "sm"}),
        }
    }
}

fn mappings(words: &[(&str, &str, &str)]) -> Value {
    let options: serde_json::Map<_, _> = words
        .iter()
        .map(|(value, text, color)| ((*value).to_owned(), json!({"text": text, "color": color})))
        .collect();
    json!([{"type": "value", "options": options}])
}
