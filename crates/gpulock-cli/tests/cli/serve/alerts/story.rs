//! What people hear of tasks that die badly, by five channels at once and a sixth when nobody
//! answers, from the first message to the last.

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use super::book::Ledger;
use super::mail::Mailbox;
use super::receiver::{Got, Receiver};
use super::{config, deaf};
use crate::cli::program::until;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

const LOST: &str = "GPU_LOCK_HOLDER_LOST";

/// Everybody who is told.
struct Crew {
    hook: Receiver,
    robot: Receiver,
    mailbox: Mailbox,
    boss: Receiver,
}

impl Crew {
    fn start() -> Self {
        Self {
            hook: Receiver::start(),
            robot: Receiver::start(),
            mailbox: Mailbox::start(),
            boss: Receiver::start(),
        }
    }

    /// Five channels, and a sixth that is told of what nobody acknowledges.
    fn config(&self, scene: &Scene) -> String {
        let lines = scene.path("alerts.jsonl");
        let robot = self.robot.url("/robot/send?access_token=abc");
        let channels = [
            self.hook.webhook("hook"),
            format!(
                "    robot: {{dingtalk: {{url: \"{robot}\", secret: SECabc}}, allow_private: true}}\n"
            ),
            format!("    lines: {{file: {{path: \"{}\"}}}}\n", lines.display()),
            "    script: {command: {argv: [sh, -c, 'cat >> told; echo >> told']}}\n".to_owned(),
            self.mailbox.channel("mail"),
            self.boss.webhook("boss"),
        ];
        let route = ", channels: [hook, robot, lines, script, mail]\
                     , escalation: [{after: 3s, channels: [boss]}]";
        config(&channels, "4s", route)
    }

    /// What each of the five was told, as text, one entry for each message.
    fn told(&self, scene: &Scene) -> [Vec<String>; 5] {
        let texts = |got: Vec<Got>| got.iter().map(|got| got.body.to_string()).collect();
        let lines = |name| scene.read(name).lines().map(str::to_owned).collect();
        [
            texts(self.hook.taken()),
            texts(self.robot.taken()),
            lines("alerts.jsonl"),
            lines("told"),
            self.mailbox.letters(),
        ]
    }

    #[track_caller]
    fn until_all_have(&self, scene: &Scene, messages: usize) -> [Vec<String>; 5] {
        until(&format!("each of the five has {messages} messages"), || {
            self.told(scene).iter().all(|told| told.len() >= messages)
        });
        self.told(scene)
    }
}

/// Kills `gpulock run` of these tasks at once. Their workers live on.
fn die_badly(scene: &Scene, tasks: &[&str]) {
    let start = |task: &&str| scene.start_run(task, &[], &deaf(task));
    let runs: Vec<_> = tasks.iter().map(start).collect();
    for task in tasks {
        scene.wait_for_pid(&format!("{task}.pid"));
    }
    runs.iter().for_each(|run| run.signal(Signal::KILL));
}

fn bury(scene: &Scene, task: &str) {
    kill_process(scene.wait_for_pid(&format!("{task}.pid")), Signal::KILL).unwrap();
}

#[test]
fn each_channel_has_one_message_of_tasks_that_died_it_climbs_and_is_called_off() {
    let crew = Crew::start();
    let scene = Scene::new();
    scene.write("config.yml", crew.config(&scene));
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    die_badly(&scene, &["asr", "ocr"]);
    let first = crew.until_all_have(&scene, 1);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for told in &first {
        assert_eq!(told.len(), 1, "{told:?}");
        for word in ["A task died or went silent", "asr", "ocr", "default", &host] {
            assert!(told[0].contains(word), "{word} in {}", told[0]);
        }
    }
    let hook = &crew.hook.taken()[0];
    assert!(hook.is_firing());
    assert_eq!((hook.labels("task"), hook.labels("gpu")), (words("asr ocr"), words("0 1")));
    assert_eq!((hook.labels("pool"), hook.rules()), (words("default default"), words(LOST)));
    let boss = &crew.boss.until_told(LOST, 1)[0];
    assert_eq!(boss.body["notification_reason"], "escalation");
    assert_eq!(boss.labels("task"), words("asr ocr"));
    let ledger = Ledger::of(&scene.store_url());
    let alerts = ledger.alerts();
    assert_eq!(alerts.len(), 2, "{alerts:#?}");
    for alert in alerts {
        assert_eq!((&*alert.name, alert.status, alert.climbed), (LOST, "firing", 1));
        assert_eq!((alert.pool.as_str(), alert.facts["host"].as_str()), ("default", &*host));
    }
    for told in crew.told(&scene) {
        assert_eq!(told.len(), 1, "nobody is told again: {told:?}");
    }
    ["asr", "ocr"].iter().for_each(|task| bury(&scene, task));
    until("the book has it as over", || {
        ledger.alerts().iter().all(|alert| alert.status == "resolved")
    });
    crew.boss.until_told(LOST, 2);
    let last = crew.until_all_have(&scene, 2);
    until("nothing is on its way", || ledger.letters().is_empty());
    assert!(last.iter().all(|told| told.last().unwrap().contains("resolved")), "{last:?}");
    for receiver in [&crew.boss, &crew.hook] {
        until("both are called off", || called_off(&receiver.taken()) == words("asr ocr"));
    }
}

#[test]
fn what_somebody_has_in_hand_does_not_climb_and_the_rest_does() {
    let crew = Crew::start();
    let scene = Scene::new();
    let config = crew.config(&scene).replace("group_wait: 4s", "group_wait: 100ms");
    scene.write("config.yml", config);
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&scene.store_url());
    die_badly(&scene, &["early"]);
    crew.hook.until_told(LOST, 1);
    ledger.acknowledge(LOST);
    die_badly(&scene, &["late"]);
    let boss = &crew.boss.until_told(LOST, 1)[0];
    assert_eq!(boss.labels("task"), ["late"], "the early one would have climbed before");
    let mut acknowledged: Vec<_> = ledger.alerts();
    acknowledged.retain(|alert| alert.acknowledged.is_some());
    assert_eq!(acknowledged.len(), 1);
    assert_eq!((&*acknowledged[0].task, acknowledged[0].climbed), ("early", 0));
    bury(&scene, "early");
    bury(&scene, "late");
    until("all is over", || ledger.alerts().iter().all(|alert| alert.status == "resolved"));
    until("nothing is on its way", || ledger.letters().is_empty());
    until("both are called off", || called_off(&crew.hook.taken()) == ["early", "late"]);
    until("the boss hears that it is over", || called_off(&crew.boss.taken()) == ["late"]);
    assert!(crew.boss.taken().iter().all(|got| got.labels("task") == ["late"]));
}

/// The tasks whose alerts were called off, in the order in which they were.
fn called_off(told: &[Got]) -> Vec<String> {
    let resolved = |alert: &&Value| alert["status"] == "resolved";
    let alerts = told.iter().flat_map(Got::alerts).filter(resolved);
    let tasks = alerts.map(|alert| alert["labels"]["task"].as_str().unwrap().to_owned());
    let mut tasks: Vec<_> = tasks.collect();
    tasks.sort_unstable();
    tasks
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
