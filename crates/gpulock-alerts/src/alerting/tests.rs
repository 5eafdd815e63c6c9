//! Configurations, from the file to the plan, and what is said about wrong ones.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use gpulock::config::{Environment, Sources};
use gpulock::core::alert::{Labels, Urgency};
use tempfile::TempDir;

use super::*;
use crate::plan::{Rate, Route, Step};
use crate::text::Markup;

/// A folder with a `config.yml`.
struct Scene {
    folder: TempDir,
    environment: Environment,
}

impl Scene {
    fn with(file: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let scene = Self { folder, environment: Environment::default() };
        scene.write("config.yml", file);
        scene
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn load(&self) -> Result<Option<Alerting>, ConfigError> {
        let sources = Sources {
            environment: self.environment.clone(),
            folder: Some(self.folder.path().to_owned()),
            ..Sources::default()
        };
        Alerting::load(&Config::load(&sources).unwrap().config)
    }

    fn alerting(&self) -> Alerting {
        self.load().unwrap().unwrap()
    }

    /// What is said, without the folder, and the hint.
    fn said(&self) -> (String, String) {
        let error = self.load().unwrap_err();
        let folder = format!("{}/", self.folder.path().display());
        (error.to_string().replace(&folder, ""), error.hint().unwrap())
    }
}

const WHOLE: &str = r#"alerts:
  language: zh
  external_url: https://gpu1.example.org:8788/
  rules:
    GPU_LOCK_SUCCESS_RATE_LOW: {level: P0, threshold: 0.5}
    GPU_LOCK_WAIT_TIME_HIGH: {threshold: 20m}
    GPU_LOCK_OWNERSHIP_VIOLATIONS_HIGH: {threshold: 200}
    GPU_LOCK_ZOMBIE: {enabled: false}
  channels:
    ops:
      slack: {url: "${SLACK}"}
      min_level: P2
      send_resolved: false
      rate_limit: {messages: 20, per: 60}
      monthly_budget: 5000
      timeout: 7s
      max_alerts: 5
      language: en
    journal:
      log:
    prom:
      alertmanager: {urls: ["https://am.example.org:9093"]}
  route:
    channels: [ops, journal]
    group_wait: 10
    group_interval: 100
    repeat_interval: 250
    mute_times: [nights]
    escalation:
      - {after: 15m, channels: [journal]}
      - {after: 1h, channels: [ops, journal]}
    routes:
      - matchers: ['severity=~"P0|P1"', pool="default"]
        channels: [prom]
        group_by: [...]
        mute_times: []
        continue: true
        routes:
          - {matchers: ["task=a"], group_interval: 1m, escalation: []}
      - {}
  inhibit:
    - {source: ['alertname="GPU_LOCK_STORE_UNREACHABLE"'], target: ['severity=~"P2|warning"'], equal: [pool]}
  mute_times:
    nights: [{times: ["22:00-07:00"], timezone: Europe/Berlin}, {weekdays: [sat-sun]}]
  dead_mans_switch: {url: "https://ping.example.org/${SLACK:x}", interval: 30}
  resolve_timeout: 10m
"#;

#[test]
fn the_whole_section_becomes_a_plan() {
    let mut scene = Scene::with(WHOLE);
    scene.environment =
        [("SLACK", "https://hooks.example.org/services/s3cret")].into_iter().collect();
    let alerting = scene.alerting();
    assert!(!format!("{alerting:?}").contains("s3cret"));
    assert_eq!(alerting.external_url, "https://gpu1.example.org:8788");
    assert!(
        !alerting.rules.is_on("GPU_LOCK_ZOMBIE") && alerting.rules.is_on("MONITOR_SERVICE_DOWN")
    );
    assert_eq!(alerting.rules.urgency("GPU_LOCK_SUCCESS_RATE_LOW", Urgency::Info), Urgency::P0);
    assert_eq!(alerting.rules.threshold("GPU_LOCK_SUCCESS_RATE_LOW"), 0.5);
    assert_eq!(alerting.rules.threshold("GPU_LOCK_WAIT_TIME_HIGH"), 1200.0);
    assert_eq!(alerting.rules.threshold("GPU_LOCK_OWNERSHIP_VIOLATIONS_HIGH"), 200.0);
    let switch = alerting.dead_mans_switch.unwrap();
    assert_eq!((switch.interval, switch.timeout), (seconds(30), seconds(5)));

    let plan = alerting.plan;
    assert_eq!(plan.resolve_timeout, seconds(600));
    let ops = &plan.channels["ops"];
    assert_eq!((ops.min_urgency, ops.send_resolved), (Urgency::P2, false));
    assert_eq!(ops.rate, Rate { messages: 20, per: seconds(60) });
    assert_eq!((ops.monthly_budget, ops.timeout, ops.max_alerts), (Some(5000), seconds(7), 5));
    let journal = &plan.channels["journal"];
    assert_eq!((journal.min_urgency, journal.send_resolved), (Urgency::Info, true));
    assert!(plan.channels["prom"].is_feed && !journal.is_feed);

    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let route = plan.route;
    assert_eq!(route.channels, names(&["ops", "journal"]));
    assert_eq!(route.group_by, names(&["alertname", "pool"]));
    assert_eq!(route.repeat_interval, seconds(300), "rounded up to a multiple of 100 s");
    let steps = vec![
        Step { after: seconds(900), channels: names(&["journal"]) },
        Step { after: seconds(3600), channels: names(&["ops", "journal"]) },
    ];
    assert_eq!(route.escalation, steps);
    let urgent = &route.routes[0];
    assert!(urgent.continues && urgent.groups_by_all() && urgent.mute_times.is_empty());
    assert_eq!((&urgent.channels, urgent.group_wait), (&names(&["prom"]), seconds(10)));
    assert_eq!(urgent.escalation, steps);
    assert_eq!(
        urgent.matchers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [r#"severity=~"P0|P1""#, r#"pool="default""#]
    );
    let innermost = &urgent.routes[0];
    assert_eq!((&innermost.channels, innermost.group_interval), (&names(&["prom"]), seconds(60)));
    assert_eq!(innermost.repeat_interval, seconds(300), "300 s is a multiple of 60 s");
    assert!(innermost.escalation.is_empty() && !innermost.continues);
    let same = Route { matchers: Vec::new(), routes: Vec::new(), ..route.clone() };
    assert_eq!(route.routes[1], same);
    assert_eq!(plan.inhibitions[0].equal, names(&["pool"]));
    // 2026-11-23 is a Monday.
    let at = |text: &str| {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Time::from_micros(u64::try_from(moment.as_microsecond()).unwrap())
    };
    assert!(alerting.mute_times.active(at("2026-11-23T21:00:00Z")).contains("nights"));
    assert!(alerting.mute_times.active(at("2026-11-23T20:59:00Z")).is_empty());
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn little_is_needed() {
    assert!(Scene::with("pool: a").load().unwrap().is_none());
    for nothing in ["alerts: {}", "alerts: {channels: {}, route: , inhibit: []}"] {
        let alerting = Scene::with(nothing).alerting();
        assert_eq!(alerting.plan, Plan::default(), "{nothing}");
        assert_eq!(alerting.channels().count(), 0);
    }
    let alerting = Scene::with("alerts: {channels: {journal: {log: }}}").alerting();
    assert_eq!(alerting.plan.route.channels, ["journal"]);
    assert_eq!(alerting.channel("journal").unwrap().kind(), "log");
}

#[test]
fn every_kind_has_its_key_and_defaults_within_its_services_limits() {
    let example = |kind: &str| match kind {
        "slack" | "feishu" | "webhook" => "{url: 'https://h.example/x'}",
        "dingtalk" => "{url: 'https://h.example/x?access_token=a'}",
        "wecom" => "{url: 'https://h.example/x?key=a'}",
        "email" => "{server: 'mail.example:587', from: a@b.example, to: [c@d.example]}",
        "pagerduty" => "{routing_key: '0123456789abcdef0123456789abcdef'}",
        "alertmanager" => "{urls: ['https://h.example:9093']}",
        "command" => "{argv: ['true']}",
        "file" => "{path: /dev/shm/gpulock-alerts.jsonl}",
        "log" => "{}",
        other => panic!("no example of {other}"),
    };
    for kind in crate::config::Kind::ALL {
        let kind = kind.as_str();
        let file = format!("alerts: {{channels: {{it: {{{kind}: {}}}}}}}", example(kind));
        let alerting = Scene::with(&file).alerting();
        assert_eq!(alerting.channel("it").unwrap().kind(), kind);
        let plan = &alerting.plan.channels["it"];
        let within = |window: f64| {
            let burst = f64::from(plan.rate.messages);
            burst + burst * window / plan.rate.per.as_secs_f64()
        };
        match kind {
            "dingtalk" | "wecom" => assert!(within(60.0) <= 20.0),
            "feishu" => assert!(within(60.0) <= 100.0 && within(1.0) <= 5.0),
            "slack" => assert!(within(60.0) <= 61.0),
            _ => {}
        }
    }
}

/// Sections, what is said about them after `config.yml:`, and the hint.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "\n  channels:\n    a: {log: }\n  route:\n    channels:\n      - a\n      - b\n",
        "7: `alerts.route.channels[1]` names a channel that does not exist",
        "write `a` if that is meant, or remove it",
    ),
    (
        "\n  route: {channels: [a]}",
        "2: `alerts.route.channels[0]` names a channel that does not exist",
        "there is no channel at all: describe one, or remove it",
    ),
    (
        "\n  channels: {a: {log: }}\n  route: {channels: [a, a]}",
        "3: `alerts.route.channels[1]` stands there twice",
        "keep one of the two",
    ),
    (
        "\n  route:\n    routes:\n    - mute_times: [night]\n  mute_times: {nights: []}",
        "4: `alerts.route.routes[0].mute_times[0]` names a mute time that does not exist",
        "write `nights` if that is meant, or remove it",
    ),
    (
        "\n  channels:\n    a:\n      log: {}\n      file: {path: /x}\n",
        "4: `alerts.channels.a.log` is a second kind beside `file`",
        "describe `log` as a channel with a name of its own",
    ),
    (
        "\n  channels:\n    a:\n      min_level: P0\n",
        "3: `alerts.channels.a` does not say what kind of channel it is",
        "add one of slack, dingtalk, wecom, feishu, email, pagerduty, webhook, alertmanager, command, file, log",
    ),
    (
        "\n  channels:\n    a:\n      slak: {url: s3cret}\n",
        "4: there is no key `alerts.channels.a.slak`; the nearest is `alerts.channels.a.slack`",
        "write `alerts.channels.a.slack` if that is meant, or remove it",
    ),
    (
        "\n  channels:\n    a b:\n      log: {}\n",
        "3: `alerts.channels.a b` is not a name for a channel",
        "use at most 64 of the letters a-z and A-Z, digits, `-`, `_` and `.`",
    ),
    (
        "\n  channels:\n    a:\n      log:\n      min_level: P9\n",
        "5: `alerts.channels.a.min_level` cannot be used: it is none of P0, P1, P2, warning and info",
        "write it as the guide to this section shows",
    ),
    (
        "\n  channels:\n    a:\n      log:\n      rate_limit: {messages: 0, per: 60}\n",
        "5: `alerts.channels.a.rate_limit.messages` would let nothing through",
        "write at least 1; to send nothing, remove the channel from the routes",
    ),
    (
        "\n  channels:\n    a:\n      log:\n      rate_limit:\n        messages: 1\n        per: 0\n",
        "7: `alerts.channels.a.rate_limit.per` is no length of time",
        "write at least 1s",
    ),
    (
        "\n  channels:\n    a:\n      log:\n      timeout: soon\n",
        "5: `alerts.channels.a.timeout` is not a length of time",
        "write seconds (90 or 1.5), or such as 90s, 30m, 1h30m",
    ),
    (
        "\n  channels:\n    a:\n      log:\n      timeout: 0\n",
        "5: `alerts.channels.a.timeout` is no length of time",
        "write at least 1s",
    ),
    (
        "\n  channels:\n    a:\n      log:\n      max_alerts: 0\n",
        "5: `alerts.channels.a.max_alerts` would leave messages empty",
        "write at least 1; all others are counted as `and N more`",
    ),
    (
        "\n  route:\n    escalation:\n    - {after: 5m, channels: [a]}\n    - {after: 5m, channels: [a]}\n  channels: {a: {log: }}",
        "5: `alerts.route.escalation[1].after` is not later than what comes before it",
        "write the steps in their order, each later than the one before it",
    ),
    (
        "\n  route:\n    escalation:\n    - {after: 0, channels: [a]}\n  channels: {a: {log: }}",
        "4: `alerts.route.escalation[0].after` is not later than what comes before it",
        "write the steps in their order, each later than the one before it",
    ),
    (
        "\n  route:\n    escalation:\n    - {after: 5m, channels: []}\n",
        "4: `alerts.route.escalation[0].channels` is empty",
        "name who is told then, or remove the step",
    ),
    (
        "\n  route:\n    escalation:\n    - {after: 5m, channels: [b]}\n  channels: {a: {log: }}",
        "4: `alerts.route.escalation[0].channels[0]` names a channel that does not exist",
        "write `a` if that is meant, or remove it",
    ),
    (
        "\n  route:\n    matchers: [a=b]",
        "3: `alerts.route.matchers` cannot stand in the outermost route",
        "move them into an entry of `routes`; every alert begins its way here",
    ),
    (
        "\n  route:\n    routes:\n      - matchers:\n        - a=b\n        - 'a=~\"(\"'\n",
        "6: `alerts.route.routes[0].matchers[1]` has a regular expression that cannot be understood: found open group without closing ')'",
        "look-around and back-references do not exist here",
    ),
    (
        "\n  route:\n    routes:\n      - matchers: [severity]\n",
        "4: `alerts.route.routes[0].matchers[0]` says nothing about a label",
        "write it as 'pool=\"default\"', with one of = != =~ !~ after the name",
    ),
    (
        "\n  route:\n    group_by: [pool, '...']\n",
        "3: `alerts.route.group_by[1]` means all labels and cannot stand beside others",
        "write it alone, or only the names of labels",
    ),
    (
        "\n  route:\n    group_by: [a-b]\n",
        "3: `alerts.route.group_by[0]` is not the name of a label",
        "write a name such as alertname, severity, pool, gpu, task",
    ),
    (
        "\n  route:\n    group_interval: 0\n",
        "3: `alerts.route.group_interval` is no length of time",
        "write at least 1s",
    ),
    (
        "\n  inhibit:\n  - {source: [], target: [a=b]}\n",
        "3: `alerts.inhibit[0].source` is empty and would mean every alert",
        "write what it is about, such as 'severity=\"P0\"'",
    ),
    (
        "\n  mute_times:\n    nights:\n    - times: [\"22:00\"]\n",
        "4: `alerts.mute_times.nights[0].times[0]` is no range of times",
        "write two times of the day such as 22:00-07:00, or 00:00-24:00 for all of it",
    ),
    (
        "\n  mute_times:\n    nights:\n    - timezone: Mars/Base\n",
        "4: `alerts.mute_times.nights[0].timezone` is no time zone that this machine knows",
        "write a name such as Europe/Berlin, Asia/Shanghai or UTC; this machine knows those of its package tzdata",
    ),
    (
        "\n  rules:\n    GPU_LOCK_ZOMBI: {enabled: false}\n",
        "3: `alerts.rules.GPU_LOCK_ZOMBI` names a rule that does not exist",
        "write `GPU_LOCK_ZOMBIE` if that is meant, or remove it",
    ),
    (
        "\n  rules:\n    GPU_LOCK_ZOMBIE: {threshold: 3}\n",
        "3: `alerts.rules.GPU_LOCK_ZOMBIE.threshold` means nothing: the rule tells of something that happens, not of a figure",
        "remove it; `level` and `enabled` can be set",
    ),
    (
        "\n  rules:\n    GPU_LOCK_SUCCESS_RATE_LOW:\n      threshold: 90\n",
        "4: `alerts.rules.GPU_LOCK_SUCCESS_RATE_LOW.threshold` is not a share",
        "write a number from 0 to 1, such as 0.1 for 10 %",
    ),
    (
        "\n  rules:\n    GPU_LOCK_WAIT_TIME_HIGH: {threshold: long}\n",
        "3: `alerts.rules.GPU_LOCK_WAIT_TIME_HIGH.threshold` is not a threshold",
        "write a number, or a length of time such as 15m",
    ),
    (
        "\n  external_url: gpu1\n",
        "2: `alerts.external_url` is not the address of a page",
        "write it as in a browser, such as https://gpu1.example.org:8788",
    ),
    (
        "\n  dead_mans_switch: {url: s3cret}\n",
        "2: `alerts.dead_mans_switch.url` is not an address of the web",
        "write https://… or @FILE, a file that holds nothing but such an address",
    ),
    (
        "\n  channels:\n    a:\n      command: {argv: []}\n",
        "4: `alerts.channels.a.command` cannot be used: `argv` names no program",
        "write argv: [PROGRAM, ARGUMENT…]",
    ),
    (
        "\n  channels:\n    a:\n      slack: {url: \"\"}\n",
        "4: `alerts.channels.a.slack.url` cannot be used: an empty secret",
        "write it as the guide to this section shows",
    ),
];

#[test]
fn what_refers_to_nothing_or_means_nothing_is_refused_with_key_line_and_hint() {
    for (file, message, hint) in WRONG {
        let (said, hinted) = Scene::with(&format!("alerts:{file}")).said();
        assert_eq!(said, format!("understand config.yml:{message}"));
        assert_eq!(hinted, *hint, "{file}");
        assert!(!format!("{said}{hinted}").contains("s3cret"), "{said}");
    }
}

#[test]
fn templates_of_users_are_tried_when_they_are_loaded() {
    let with = |template: &str| {
        Scene::with(&format!(
            "alerts:\n  channels:\n    a:\n      log:\n      template:\n        {template}\n"
        ))
    };
    let scene = with("title: '{{ severity }} from me'");
    let notification = notification();
    let text = scene.alerting().text(&notification, Time::default());
    assert_eq!(text.title, "P2 from me");
    assert!(text.body.contains("GPU_LOCK") || text.body.contains("task"), "{text:?}");

    for (template, message) in [
        ("body: '{{ alert }}'", "uses in its line 1 what is not always there: `alert`"),
        (
            "body: |\n          {% for a in alerts %}\n          {{ a.annotations.host }}\n          {% endfor %}",
            "uses in its line 2 what is not always there: `a.annotations.host`",
        ),
        (
            "title: '{{ groupLabels.pool }}'",
            "uses in its line 1 what is not always there: `groupLabels.pool`",
        ),
        ("title: '{% if %}'", "has an error in its line 1: syntax error"),
        ("title: '{{ severity|shout }}'", "has an error in its line 1: unknown filter"),
        (
            "body: '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}'",
            "does not come to an end",
        ),
        (
            "body: '{% for a in range(100000) %}0123456789{% endfor %}'",
            "makes a text of more than 262144 bytes",
        ),
        ("body: '@/nowhere/body.jinja'", "cannot be read from its file"),
    ] {
        let (said, hint) = with(template).said();
        // A text of several lines begins below its key.
        let line = if template.contains('\n') { 7 } else { 6 };
        let start = format!(
            "understand config.yml:{line}: `alerts.channels.a.template.{}` {message}",
            &template[..template.find(':').unwrap()]
        );
        assert!(said.starts_with(&start), "{said}\n{start}");
        if message.starts_with("uses") {
            for name in ["commonLabels", "severity", "externalURL", "startsAt", "is_first_of_rule"]
            {
                assert!(hint.contains(name), "{hint}");
            }
        }
    }

    let scene = Scene::with("");
    let file = scene.write("title.jinja", "{{ alerts|length }} of {{ total }}\n");
    scene.write(
        "config.yml",
        &format!("alerts: {{channels: {{a: {{log: , template: {{title: '@{file}'}}}}}}}}"),
    );
    assert_eq!(scene.alerting().text(&notification, Time::default()).title, "1 of 1");
}

fn notification() -> Notification {
    let labels =
        Labels::default().with(Labels::RULE, "GPU_LOCK_HOLDER_LOST").with(Labels::SEVERITY, "P2");
    let alert = NotifiedAlert {
        status: crate::Status::Firing,
        fingerprint: labels.fingerprint(),
        labels,
        annotations: BTreeMap::from([("host".to_owned(), "gpu1".to_owned())]),
        starts_at: Time::default(),
        ends_at: None,
        generator_url: String::new(),
        count: 1,
    };
    Notification {
        id: "1".to_owned(),
        version: "4",
        group_key: String::new(),
        truncated_alerts: 0,
        status: crate::Status::Firing,
        receiver: "a".to_owned(),
        group_labels: Labels::default(),
        common_labels: Labels::default(),
        common_annotations: BTreeMap::new(),
        external_url: String::new(),
        reason: "first".to_owned(),
        alerts: vec![alert],
        count: 1,
    }
}

#[test]
fn a_notification_is_completed_in_the_language_of_its_channel() {
    let scene = Scene::with(
        "alerts: {external_url: 'https://h.example/', channels: {a: {log: , language: zh}, b: {log: }}}",
    );
    let alerting = scene.alerting();
    for (receiver, summary) in [
        ("a", "任务在占用 GPU 期间崩溃或失去响应。"),
        ("b", "A task died or went silent while it held a GPU."),
    ] {
        let mut notification = Notification { receiver: receiver.to_owned(), ..notification() };
        alerting.complete(&mut notification);
        assert_eq!(notification.alerts[0].annotation("summary"), summary);
        assert_eq!(notification.common_annotations["summary"], summary);
        assert_eq!(notification.external_url, "https://h.example");
        assert_eq!(notification.alerts[0].generator_url, "https://h.example/api/v1/alerts");
        let text = alerting.text(&notification, Time::default());
        assert_eq!(text.title, format!("[P2] {summary}"));
    }
    assert_eq!(alerting.channel("a").unwrap().markup(), Markup::Plain);
}

/// The pages of the guide.
fn pages() -> Vec<String> {
    let guides = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides");
    let mut pages = vec![fs::read_to_string(guides.join("alerts.md")).unwrap()];
    let folder = fs::read_dir(guides.join("alerts")).unwrap();
    pages.extend(folder.map(|page| fs::read_to_string(page.unwrap().path()).unwrap()));
    pages
}

#[test]
fn the_examples_of_the_guide_work_as_pasted() {
    let mut kinds = BTreeSet::new();
    for page in pages() {
        let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for example in blocks.filter(|block| block.starts_with("alerts:")) {
            let mut scene = Scene::with("");
            let folder = scene.folder.path().display().to_string();
            // What has to be on a machine is there.
            let mut file = example
                .replace("/usr/local/bin/send-sms", "true")
                .replace("/var/log/gpulock", &folder);
            for part in example.split("\"@").skip(1) {
                let path = part.split('"').next().unwrap();
                let secret = match path.rsplit(['.', '/']).next().unwrap() {
                    "url" | "slack" | "ping" => "https://hooks.example.org/services/T0/B0/x?key=a",
                    "secret" => "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
                    _ => "0123456789abcdef0123456789abcdef",
                };
                let name = path.replace('/', "_");
                file = file.replace(path, &scene.write(&name, secret));
            }
            scene.write("config.yml", &file);
            let key = "0123456789abcdef0123456789abcdef";
            scene.environment = [("PAGERDUTY_KEY", key)].into_iter().collect();
            match scene.load() {
                Ok(alerting) => {
                    kinds.extend(alerting.unwrap().channels().map(|(_, channel)| channel.kind()));
                }
                Err(error) => panic!("{error}\n{example}"),
            }
        }
    }
    let all = crate::config::Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(kinds, all, "every kind has an example");
}
