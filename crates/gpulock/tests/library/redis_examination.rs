//! What `examine` says about real Redis servers, and that the rights it names are enough and
//! not too many.

use std::process::Command;

use gpulock::connect;
use gpulock::core::{TaskBeat, TaskStatus};
use gpulock::store::{Cursor, DocumentName, DocumentSwap, Remark, Verdict};
use gpulock_testbed::{RedisServer, Sentinels};

use super::support::{World, block_on, task, until};

fn examine(url: &str) -> Vec<Remark> {
    block_on(connect(url).unwrap().examine())
}

/// The one remark about a subject.
fn about(url: &str, subject: &str) -> Remark {
    let mut remarks = examine(url);
    remarks.retain(|remark| remark.subject == subject);
    let [remark] = &remarks[..] else { panic!("{subject}: {remarks:?}") };
    remark.clone()
}

#[test]
fn a_server_as_it_should_be_has_nothing_bad_about_it() {
    let server = RedisServer::with(&["--appendonly", "yes"]);
    let remarks = examine(&server.url());
    for remark in &remarks {
        assert!(remark.verdict < Verdict::Bad, "{remark:?}");
        assert!(remark.verdict == Verdict::Good || remark.hint.is_some(), "{remark:?}");
    }
    let good = |subject| about(&server.url(), subject).verdict == Verdict::Good;
    for subject in ["latency", "clock", "memory", "persistence", "replicas", "network"] {
        assert!(good(subject), "{subject}");
    }
}

#[test]
fn a_server_that_evicts_is_refused() {
    let server = RedisServer::start();
    for policy in ["allkeys-lru", "volatile-lru", "allkeys-random", "volatile-ttl"] {
        server.cli(&["CONFIG", "SET", "maxmemory-policy", policy]);
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(about(&server.url(), "memory").verdict, Verdict::Warning, "{policy}");
        server.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
        let remark = about(&server.url(), "memory");
        assert_eq!(remark.verdict, Verdict::Bad, "{policy}");
        assert!(remark.message.contains(policy) && remark.hint.unwrap().contains("noeviction"));
    }
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    assert_eq!(about(&server.url(), "memory").verdict, Verdict::Good);
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(about(&server.url(), "memory").verdict, Verdict::Warning, "it is nearly full");
}

#[test]
fn what_a_restart_costs_is_said() {
    let server = RedisServer::start();
    let told = |options: &str| about(&format!("{}{options}", server.url()), "persistence");
    assert_eq!(told("").verdict, Verdict::Warning);
    assert!(told("").message.contains("nothing is lent for one heartbeat timeout"));
    assert!(told("?after_restart=refuse").message.contains("requests are refused"));
    assert!(told("?after_restart=trust").message.contains("lent twice"));
}

#[test]
fn replicas_are_compared_with_what_is_asked_for() {
    let sentinels = Sentinels::start(1);
    let url = sentinels.url(Sentinels::SERVICE);
    let verdict = |options: &str| about(&format!("{url}{options}"), "replicas").verdict;
    until("the replica is known", || verdict("?min_replicas=1") == Verdict::Good);
    assert_eq!(verdict(""), Verdict::Warning);
    assert_eq!(verdict("?min_replicas=2"), Verdict::Bad);
    let replica = sentinels.replicas()[0].url();
    assert_eq!(about(&replica, "replicas").verdict, Verdict::Bad);
}

#[test]
fn a_server_that_is_not_there_is_the_only_remark() {
    let server = RedisServer::start();
    let url = server.url();
    drop(server);
    let remarks = examine(&url);
    let [remark] = &remarks[..] else { panic!("{remarks:?}") };
    assert_eq!((remark.subject, remark.verdict), ("server", Verdict::Bad));
    assert!(remark.hint.is_some());
}

/// The access list as `examine` prints it, for a user of this server.
fn make_user(server: &RedisServer, prefix: &str) -> String {
    let options = format!("after_restart=trust&min_replicas=0&prefix={prefix}");
    let remark = about(&format!("{}?{options}", server.url()), "rights");
    assert_eq!(remark.verdict, Verdict::Warning, "the user `default` may do everything");
    let line = remark.hint.unwrap().replace(">PASSWORD", ">secret");
    server.cli(&line.split_whitespace().collect::<Vec<_>>());
    format!("redis://gpulock:secret@127.0.0.1:{}/0?{options}", server.port())
}

#[test]
fn the_rights_that_are_named_are_enough_for_everything() {
    let server = RedisServer::start();
    let url = make_user(&server, "prod:");
    let world = World::at(url.clone());
    let (client, other) = (world.client(), world.client());
    let first = client.request(task("first")).acquire().unwrap();
    let second = other.request(task("second")).start().unwrap();
    let third = other.request(task("third")).start().unwrap();
    world.until_queued(2);
    first.progress(10.0, "working");
    block_on(first.release()).unwrap();
    let second = block_on(second).unwrap();
    block_on(third.call_off());
    block_on(second.release()).unwrap();
    world.until_free();
    assert_eq!(world.counters().released, 2);
    assert!(!world.history().is_empty());
    assert!(block_on(client.follow(Cursor::START, 10)).unwrap().is_gapless);
    let beat = TaskBeat {
        task_id: task("video-7"),
        status: TaskStatus::Running,
        progress: None,
        lease: None,
        host: "gpu1".to_owned(),
        pid: None,
        begins: false,
    };
    let told = block_on(client.beat(&beat)).unwrap();
    assert_eq!(block_on(client.tasks()).unwrap(), [told]);
    assert!(block_on(client.forget_task(&task("video-7"))).unwrap());
    let name = DocumentName::fixed("alerts");
    let swap = block_on(world.store.swap_document(&name, 0, "text")).unwrap();
    assert!(matches!(swap, DocumentSwap::Written { .. }));
    let read = block_on(world.store.document(&name)).unwrap();
    assert_eq!(read.text, "text");
    let late = block_on(world.store.swap_document(&name, 0, "late")).unwrap();
    assert!(matches!(late, DocumentSwap::Conflict(present) if present.version == read.version));
    assert_eq!(block_on(world.store.pools()).unwrap().len(), 1);
    assert_eq!(about(&url, "rights").verdict, Verdict::Good);
    // What only happens when there are very many tasks.
    assert_eq!(as_user(&server, &["ZPOPMIN", "prod:gpulock:{default}:beats", "1"]), "");
    assert!(server.cli(&["KEYS", "*"]).lines().all(|key| key.starts_with("prod:gpulock:")));
}

#[test]
fn the_rights_that_are_named_are_not_too_many() {
    let server = RedisServer::start();
    make_user(&server, "");
    let attempts = [
        "FLUSHALL",
        "CONFIG GET maxmemory",
        "KEYS *",
        "SHUTDOWN",
        "MONITOR",
        "ACL LIST",
        "SAVE",
        "SCRIPT FLUSH",
        "CLIENT KILL TYPE normal",
        "DEBUG SLEEP 0",
        "GET gpulock:{default}:head",
        "HGETALL other:key",
        "HSET other:key a b",
        "PUBLISH other a",
        "SUBSCRIBE other",
        // A script has no more rights than who calls it.
        "EVAL return(redis.call('HGETALL','other:key')) 0",
    ];
    for attempt in attempts {
        let said = as_user(&server, &attempt.split(' ').collect::<Vec<_>>());
        let denied = ["NOPERM", "The user executing the script can't access"];
        assert!(denied.iter().any(|words| said.contains(words)), "{attempt}: {said}");
    }
    assert_eq!(as_user(&server, &["PING"]), "PONG");
}

fn as_user(server: &RedisServer, command: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .arg("-s")
        .arg(server.socket())
        .args(["--user", "gpulock", "--pass", "secret", "--no-auth-warning"])
        .args(command)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
