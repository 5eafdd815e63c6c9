//! What people say about alerts: acknowledging, silences, sending again.

use gpulock::core::alert::{Change, Urgency};

use super::{UNREACHABLE, filters, give_up, hear, hung, id, lost, overdue, signal, step};
use crate::cli::scene::Scene;

#[test]
fn an_alert_is_acknowledged_once_and_by_the_beginning_of_its_id() {
    let scene = Scene::new();
    let _filters = filters();
    hear(&scene, &[hung(), lost()]);
    let (hung, lost) = (id(&hung()), id(&lost()));
    let first = ["alerts", "ack", &hung[..6].to_uppercase(), "--note", "driver hangs"];
    insta::assert_snapshot!(scene.gpulock(&first).told(), @"
    exit code 0
    --- stdout
    acknowledged a2912b46 GPU_LOCK_HARD_TIMEOUT
    ");
    let second = ["alerts", "ack", &hung, &lost, "--by", "bob"];
    insta::assert_snapshot!(scene.gpulock(&second).told(), @"
    exit code 0
    --- stdout
    acknowledged f22eb54c GPU_LOCK_HOLDER_LOST
    --- stderr
    gpulock: a2912b46 GPU_LOCK_HARD_TIMEOUT was acknowledged by tester@HOST SPAN ago, and stays so
    ");
    step(&scene, |book, _| {
        let of = |id: &str| {
            let alert = book.alerts().find(|(known, _)| known.as_str() == id).unwrap().1;
            alert.acknowledged.clone().unwrap()
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert_eq!(of(&hung).by, format!("tester@{host}"));
        assert_eq!((of(&hung).note, of(&lost).by), ("driver hangs".to_owned(), "bob".to_owned()));
    });
}

#[test]
fn what_cannot_be_acknowledged_changes_nothing_and_says_what_could() {
    let scene = Scene::new();
    let _filters = filters();
    insta::assert_snapshot!(scene.gpulock(&["alerts", "ack", "123"]).told(), @"
    exit code 76
    --- stderr
    error: no alert has the id 123

    hint: no alert fires; `gpulock alerts list --all` shows those that are over
    ");
    hear(&scene, &[hung(), lost(), overdue()]);
    let wrong = ["alerts", "ack", &id(&hung()), "zzz"];
    insta::assert_snapshot!(scene.gpulock(&wrong).told(), @"
    exit code 76
    --- stderr
    error: no alert has the id zzz

    hint: these fire: 4f9e9f45 GPU_LOCK_LONG_HELD, a2912b46 GPU_LOCK_HARD_TIMEOUT, f22eb54c GPU_LOCK_HOLDER_LOST
    ");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "ack", "gpu_lock_holder_lost"]).told(), @"
    exit code 76
    --- stderr
    error: no alert has the id gpu_lock_holder_lost

    hint: these fire: f22eb54c GPU_LOCK_HOLDER_LOST, 4f9e9f45 GPU_LOCK_LONG_HELD, a2912b46 GPU_LOCK_HARD_TIMEOUT
    ");
    step(&scene, |book, _| {
        assert!(book.alerts().all(|(_, alert)| alert.acknowledged.is_none()));
    });
    let mut ended = overdue();
    ended.change = Change::Over;
    hear(&scene, &[ended]);
    insta::assert_snapshot!(scene.gpulock(&["alerts", "ack", &id(&overdue())]).told(), @"
    exit code 76
    --- stderr
    error: alert 4f9e9f45cc3d2e2b is over

    hint: `gpulock alerts list --all` shows when it ended
    ");
    let tasks = (0..17).map(|number| number.to_string());
    let many: Vec<_> = tasks
        .map(|task| signal("GPU_LOCK_ZOMBIE", &task, Urgency::Warning, Change::Present))
        .collect();
    hear(&scene, &many);
    let ids: Vec<_> = many.iter().map(id).collect();
    let shared = ids.iter().find(|one| ids.iter().filter(|id| id[..1] == one[..1]).count() > 1);
    let told = scene.gpulock(&["alerts", "ack", &shared.unwrap()[..1]]).expect(64);
    assert!(told.stderr.contains("write more of it: "), "{told:?}");
    scene.gpulock(&["alerts", "ack", ""]).expect(64);
    scene.gpulock(&["alerts", "ack"]).expect(64);
}

#[test]
fn a_silence_says_what_it_covers_is_listed_and_ends() {
    let scene = Scene::new();
    let _filters = filters();
    hear(&scene, &[hung(), lost(), overdue()]);
    let list = ["alerts", "silences"];
    insta::assert_snapshot!(scene.gpulock(&list).told(), @"
    exit code 0
    --- stderr
    gpulock: there are no silences
    ");
    let silence = [
        "alerts",
        "silence",
        "severity=~\"P1|P2\"",
        "task!=nightly",
        "--for",
        "2h",
        "--comment",
        "new\ncards",
        "--by",
        "alice",
    ];
    let told = scene.gpulock(&silence).expect(0);
    let id = told.stdout.split_whitespace().nth(1).unwrap().to_owned();
    insta::assert_snapshot!(told.told().replace(&id, "ID"), @r#"
    exit code 0
    --- stdout
    silence ID for 2h: severity=~"P1|P2" task!="nightly"; of the alerts that fire now it covers 2
    "#);
    insta::assert_snapshot!(scene.gpulock(&list).told().replace(&id, "ID"), @r#"
    exit code 0
    --- stdout
    ID  STATE  ENDS  BY  MATCHERS  COMMENT
    ID  active  in SPAN  alice  severity=~"P1|P2" task!="nightly"  new cards
    "#);
    let json = scene.gpulock(&["alerts", "silences", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["status"], &json[0]["id"]), (&"active".into(), &id.as_str().into()));
    let muted = || {
        let told = scene.gpulock(&["alerts", "list", "--json"]).expect(0).stdout;
        let alerts: serde_json::Value = serde_json::from_str(&told).unwrap();
        let alerts = alerts.as_array().unwrap().clone();
        alerts.iter().filter(|alert| alert["muted_by"] == "silence").count()
    };
    assert_eq!(muted(), 2);
    let end = ["alerts", "unsilence", &id[..4]];
    insta::assert_snapshot!(scene.gpulock(&end).told().replace(&id, "ID"), @"
    exit code 0
    --- stdout
    silence ID has ended
    ");
    assert_eq!(muted(), 0);
    let over = scene.gpulock(&list).expect(0).stdout;
    assert!(over.contains("expired") && over.contains(" ago"), "{over}");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "unsilence", "xyz"]).told(), @"
    exit code 76
    --- stderr
    error: no silence has the id xyz

    hint: `gpulock alerts silences` lists them
    ");
}

#[test]
fn everything_is_silenced_only_by_that_name() {
    let scene = Scene::new();
    let _filters = filters();
    insta::assert_snapshot!(scene.gpulock(&["alerts", "silence", "--for", "2h"]).told(), @"
    exit code 64
    --- stderr
    error: without a matcher every alert would be silenced

    hint: name what is meant, such as pool=default; --everything if it is meant so
    ");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "silence", "pool!=lab", "--for", "2h"]).told(), @r#"
    exit code 64
    --- stderr
    error: pool!="lab" also holds for alerts without labels

    hint: name what is meant, such as pool=default; --everything if it is meant so
    "#);
    scene.gpulock(&["alerts", "silence", "pool=~.*", "--for", "2h"]).expect(64);
    let told = scene.gpulock(&["alerts", "silence", "pool", "--for", "2h"]).expect(64);
    assert!(
        told.stderr.starts_with("error: invalid value 'pool' for '[MATCHER]...': "),
        "{told:?}"
    );
    scene.gpulock(&["alerts", "silence", "pool=default"]).expect(64);
    scene.gpulock(&["alerts", "silence", "pool=default", "--for", "0"]).expect(64);
    insta::assert_snapshot!(scene.gpulock(&["alerts", "silence", "pool=lab", "--for", "99999999h"]).told(), @"
    exit code 64
    --- stderr
    error: invalid value '99999999h' for '--for <SPAN>': write seconds (90 or 1.5) or a length such as SPAN, 30m, 1h30m

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    assert_eq!(scene.gpulock(&["alerts", "silences", "--json"]).expect(0).stdout, "[]\n");
    let told = scene.gpulock(&["alerts", "silence", "--everything", "--for", "10m"]).expect(0);
    assert!(told.stdout.contains("every alert"), "{told:?}");
}

#[test]
fn what_was_given_up_is_shown_with_its_error_and_sent_again() {
    let scene = Scene::with_config(UNREACHABLE);
    let _filters = filters();
    let list = ["alerts", "list", "--undelivered"];
    insta::assert_snapshot!(scene.gpulock(&list).told(), @"
    exit code 0
    --- stderr
    gpulock: every message was delivered, or is on its way for the first time
    ");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "resend", "--all"]).told(), @"
    exit code 0
    --- stderr
    gpulock: no message was given up
    warning: no daemon acts on this store: nothing new is found, and no message is sent

    hint: `gpulock serve` starts one
    ");
    give_up(&scene, &hung());
    insta::assert_snapshot!(scene.gpulock(&list).told(), @"
    exit code 0
    --- stdout
    ID  CHANNEL  WHY  ALERTS  RULES  POSTED  TRIES  STATE
    MESSAGE  ops  first  1  GPU_LOCK_HARD_TIMEOUT  SPAN ago  1  given up
      authError: 401: no such token
    --- stderr
    warning: no daemon acts on this store: nothing new is found, and no message is sent

    hint: `gpulock serve` starts one
    ");
    let told = scene.gpulock(&["alerts", "list", "--undelivered", "--json"]).expect(0);
    let messages: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let id = messages[0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&messages[0]["channel"], &messages[0]["tries"]), (&"ops".into(), &1.into()));
    insta::assert_snapshot!(scene.gpulock(&["alerts", "resend", "12-3"]).told(), @"
    exit code 76
    --- stderr
    error: no undelivered message has the id 12-3

    hint: `gpulock alerts list --undelivered` lists them
    ");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "resend", &id]).told(), @"
    exit code 0
    --- stdout
    1 message is sent again
    --- stderr
    warning: no daemon acts on this store: nothing new is found, and no message is sent

    hint: `gpulock serve` starts one
    ");
    scene.gpulock(&["alerts", "resend", &id]).expect(76);
    scene.gpulock(&["alerts", "resend"]).expect(64);
    let told = scene.gpulock(&["alerts", "list", "--undelivered", "--json"]).expect(0);
    let messages: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(messages[0]["status"], "waiting");
}
