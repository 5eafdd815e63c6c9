//! New workers beside older ones, which take `gpu_lock:0` by `SET NX EX` with the value
//! `locked_by_TASK` and know nothing of leases.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gpulock::core::{GpuIndex, GpuRef, Phase};
use gpulock::store::LockKeys;
use gpulock::{Acquiring, Client, Error, Health, Lease, Loss, Options, connect};
use gpulock_testbed::RedisServer;

use super::support::{
    AGES, Actor, World, block_on, full_name, part, patient, task, trusted, until,
};

const KEY: &str = "gpu_lock:0";

/// The life of a key that is to run out while a test runs.
const LIFE: Duration = Duration::from_secs(6);

/// A server that older and new workers share.
struct Mixed {
    server: RedisServer,
    world: World,
}

impl Mixed {
    fn new() -> Self {
        let server = RedisServer::start();
        Self { world: World::at(trusted(&server)), server }
    }

    /// A new worker, which is not woken by any clock while the test runs.
    fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    fn client_with(&self, change: impl FnOnce(&mut Options)) -> Client {
        self.world.client_with(|options| {
            options.legacy_keys = true;
            change(options);
        })
    }

    /// An older worker tries to get the GPU, for so many milliseconds at most.
    fn older_takes(&self, task: &str, millis: u32) -> bool {
        let (value, millis) = (format!("locked_by_{task}"), millis.to_string());
        self.server.cli(&["SET", KEY, &value, "NX", "PX", &millis]).trim() == "OK"
    }

    /// An older worker is done: it deletes the key if it is its own, and says so.
    fn older_releases(&self, task: &str) {
        assert_eq!(self.value(), format!("locked_by_{task}"));
        self.server.cli(&["DEL", KEY]);
        let news = format!(
            r#"{{"event_type": "lock_released", "lock_key": "{KEY}", "task_name": "{task}", "timestamp": 1.5}}"#
        );
        self.server.cli(&["PUBLISH", &channel(), &news]);
    }

    fn value(&self) -> String {
        self.value_of(KEY)
    }

    fn value_of(&self, key: &str) -> String {
        self.server.cli(&["GET", key]).trim().to_owned()
    }

    fn lock_keys(&self) -> Arc<dyn LockKeys> {
        self.world.store.lock_keys().unwrap()
    }

    fn until_somebody_listens(&self) {
        until("a new worker listens", || {
            let told = self.server.cli(&["PUBSUB", "NUMSUB", &channel()]);
            told.lines().last().is_some_and(|count| count.trim() == "1")
        });
    }

    /// A new worker that has the lease and waits for the key of an older one.
    fn one_that_waits(&self) -> Acquiring {
        let waiting = self.client().request(task("new")).start().unwrap();
        self.until_somebody_listens();
        waiting
    }
}

fn channel() -> String {
    format!("gpu_lock:{KEY}")
}

fn refusal(answer: Result<Lease, Error>) -> String {
    match answer {
        Err(Error::NotAcquired(refused)) => refused.to_string(),
        other => panic!("not a refusal: {other:?}"),
    }
}

/// Counts who is inside, and fails if it is more than one.
#[derive(Default)]
struct Gpu(AtomicUsize);

impl Gpu {
    fn work(&self) {
        assert_eq!(self.0.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
        thread::sleep(Duration::from_millis(3));
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn an_older_and_a_new_worker_are_never_both_inside() {
    const ROUNDS: usize = 12;
    let (mixed, gpu) = (Mixed::new(), Gpu::default());
    thread::scope(|scope| {
        for name in ["asr", "ocr"] {
            let (mixed, gpu) = (&mixed, &gpu);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    until("the older worker's turn", || mixed.older_takes(name, 60_000));
                    gpu.work();
                    mixed.older_releases(name);
                }
            });
            scope.spawn(move || {
                let client = mixed.client_with(|options| {
                    options.polling.first = Duration::from_millis(50);
                    options.polling.longest = Duration::from_millis(50);
                });
                for _ in 0..ROUNDS {
                    let lease = client.request(task(name)).acquire().unwrap();
                    gpu.work();
                    block_on(lease.release()).unwrap();
                }
            });
        }
    });
    assert_eq!(mixed.value(), "");
    assert_eq!(mixed.world.counters().released, 2 * ROUNDS as u64);
    assert_eq!(mixed.world.counters().ownership_violations, 0);
}

#[test]
fn the_key_is_set_while_the_gpu_is_held_and_freed_with_it() {
    let mixed = Mixed::new();
    let lease = mixed.client().request(task("new")).acquire().unwrap();
    assert_eq!(mixed.value(), format!("locked_by_new#{}", lease.id()));
    assert!(!mixed.older_takes("asr", 1_000));

    let mut releases = block_on(mixed.lock_keys().listen(KEY)).unwrap();
    block_on(lease.release()).unwrap();
    block_on(releases.next());
    assert!(mixed.older_takes("asr", 60_000));
}

/// It would not look by itself while the test runs.
#[test]
fn the_release_of_an_older_worker_wakes_a_new_one() {
    let mixed = Mixed::new();
    assert!(mixed.older_takes("asr", 3_600_000));
    let waiting = mixed.one_that_waits();
    let told = waiting.progress().borrow().clone();
    assert_eq!(told.holders[0].task, "locked_by_asr");
    let leases = mixed.world.view().pool.leases;
    assert_eq!(leases[0].lease_id, waiting.lease_id());

    mixed.older_releases("asr");
    let lease = block_on(waiting).unwrap();
    assert_eq!(mixed.value(), format!("locked_by_new#{}", lease.id()));
}

#[test]
fn everybody_sees_that_a_new_worker_waits_for_an_older_one() {
    let mixed = Mixed::new();
    assert!(mixed.older_takes("asr", 3_600_000));
    let waiting = mixed.one_that_waits();
    let message = || {
        let progress = mixed.world.view().pool.lease(waiting.lease_id())?.progress.clone();
        progress.map(|progress| progress.message)
    };
    until("it says so", || {
        message()
            .is_some_and(|message| message == "waiting for locked_by_asr, which sets gpu_lock:0")
    });
    mixed.older_releases("asr");
    let lease = block_on(waiting).unwrap();
    until("it says that it has it", || {
        let progress = mixed.world.view().pool.lease(lease.id()).unwrap().progress.clone();
        progress.is_some_and(|progress| progress.message == "has the lock key gpu_lock:0")
    });
}

#[test]
fn the_key_of_an_older_worker_that_crashed_runs_out() {
    let mixed = Mixed::new();
    assert!(mixed.older_takes("crashed", 1_500));
    let lease = mixed.client().request(task("new")).acquire().unwrap();
    assert_eq!(mixed.value(), format!("locked_by_new#{}", lease.id()));
}

#[test]
fn a_wake_up_that_was_lost_with_the_connection_is_made_good() {
    let mixed = Mixed::new();
    assert!(mixed.older_takes("asr", 3_600_000));
    let waiting = mixed.one_that_waits();
    mixed.server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    mixed.server.cli(&["DEL", KEY]);
    block_on(waiting).unwrap().check().unwrap();
}

#[test]
fn whoever_gives_up_says_which_older_worker_is_inside_and_leaves_its_key() {
    let mixed = Mixed::new();
    assert!(mixed.older_takes("asr", 3_600_000));
    let request = mixed.client().request(task("new"));
    let said = refusal(request.max_wait(Duration::from_millis(300)).acquire());
    assert!(said.starts_with("GPU 0 did not become free within"), "{said}");
    assert!(said.contains("held by locked_by_asr (an older worker)"), "{said}");
    let said = refusal(mixed.client().request(task("new")).no_wait().acquire());
    assert!(said.starts_with("GPU 0 is not free: held by locked_by_asr"), "{said}");
    assert_eq!(mixed.value(), "locked_by_asr");
    mixed.world.until_free();
}

#[test]
fn a_wait_for_an_older_worker_can_be_called_off() {
    let mixed = Mixed::new();
    assert!(mixed.older_takes("asr", 3_600_000));
    let waiting = mixed.one_that_waits();
    block_on(waiting.call_off());
    mixed.world.until_free();
    assert_eq!(mixed.value(), "locked_by_asr");
}

/// Heartbeats keep it, not the short time in which a command must be claimed.
#[test]
fn the_lease_lives_while_a_command_waits_for_an_older_worker() {
    let mixed = Mixed::new();
    assert!(mixed.older_takes("asr", 3_600_000));
    let waiting = mixed.client().request(task("command")).supervised().start().unwrap();
    mixed.until_somebody_listens();
    let view = mixed.world.view();
    let lease = view.pool.lease(waiting.lease_id()).unwrap();
    assert!(matches!(lease.phase, Phase::Held { .. }), "{:?}", lease.phase);
}

#[test]
fn new_workers_hand_over_among_themselves() {
    let mixed = Mixed::new();
    let (first, second) = (mixed.client(), mixed.client());
    let lease = first.request(task("first")).acquire().unwrap();
    let waiting = second.request(task("second")).start().unwrap();
    mixed.world.until_queued(1);
    assert_eq!(mixed.value(), format!("locked_by_first#{}", lease.id()));
    block_on(lease.release()).unwrap();
    let lease = block_on(waiting).unwrap();
    assert_eq!(mixed.value(), format!("locked_by_second#{}", lease.id()));
}

#[test]
fn a_key_that_somebody_deleted_is_set_again() {
    let mixed = Mixed::new();
    let client = mixed.client_with(|options| options.stop_grace = LIFE / 2);
    let lease = client.request(task("new")).heartbeats(LIFE / 10, LIFE).acquire().unwrap();
    let value = mixed.value();
    mixed.server.cli(&["DEL", KEY]);
    until("it is there again", || mixed.value() == value);
    lease.check().unwrap();
}

#[test]
fn whoever_finds_an_older_worker_in_its_place_is_told_and_leaves_its_key() {
    let mixed = Mixed::new();
    let client = mixed.client_with(|options| options.stop_grace = LIFE / 2);
    let lease = client.request(task("new")).heartbeats(LIFE / 10, LIFE).acquire().unwrap();
    // The older monitor frees by force, and an older worker is quick.
    mixed.server.cli(&["SET", KEY, "locked_by_asr", "EX", "3600"]);
    block_on(lease.lost());
    assert_eq!(lease.state().health, Health::Lost(Loss::OlderWorker));
    assert!(matches!(lease.check(), Err(Error::Lost(why)) if why.contains("an older worker")));
    block_on(lease.release()).unwrap();
    assert_eq!(mixed.value(), "locked_by_asr");
}

#[test]
fn a_key_lasts_while_its_holder_lives() {
    let mixed = Mixed::new();
    let client = mixed.client_with(|options| options.stop_grace = LIFE / 2);
    let lease = client.request(task("new")).heartbeats(LIFE / 10, LIFE).acquire().unwrap();
    let left = || mixed.server.cli(&["PTTL", KEY]).trim().parse::<i64>().unwrap();
    until("it has been extended twice", {
        let (mut last, mut times) = (left(), 0);
        move || {
            let now = left();
            assert!(now > 0, "it ran out");
            times += u32::from(now > last);
            last = now;
            times == 2
        }
    });
    lease.check().unwrap();
}

/// A worker that is killed while it holds the GPU, and its process.
fn killed_holder(mixed: &Mixed, test: &str, role: &str) -> Actor {
    let actor = Actor::start(test, role, Path::new(&trusted(&mixed.server)));
    until("it holds the GPU", || mixed.value().starts_with("locked_by_doomed#"));
    actor.signal(rustix::process::Signal::KILL);
    actor
}

/// What that worker does.
fn hold_until_killed(url: &Path, timeout: Duration) -> ! {
    let options = Options { legacy_keys: true, stop_grace: LIFE / 2, ..patient() };
    let store = connect(&url.display().to_string()).unwrap();
    let client = Client::builder(store).options(options).build().unwrap();
    let _lease = client.request(task("doomed")).heartbeats(timeout / 3, timeout).acquire().unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn the_key_of_a_new_worker_that_was_killed_runs_out() {
    if let Some((_, url)) = part() {
        hold_until_killed(&url, LIFE);
    }
    let mixed = Mixed::new();
    let name = full_name!("the_key_of_a_new_worker_that_was_killed_runs_out");
    let _actor = killed_holder(&mixed, &name, "holder");
    until("an older worker gets it", || mixed.older_takes("asr", 60_000));
}

/// The key would last for hours, but the lease that set it is over.
#[test]
fn the_next_new_worker_takes_the_key_of_one_that_was_killed() {
    if let Some((_, url)) = part() {
        hold_until_killed(&url, AGES * 3);
    }
    let mixed = Mixed::new();
    let name = full_name!("the_next_new_worker_takes_the_key_of_one_that_was_killed");
    let _actor = killed_holder(&mixed, &name, "holder");
    let lease = mixed.client().request(task("next")).acquire().unwrap();
    assert_eq!(mixed.value(), format!("locked_by_next#{}", lease.id()));
}

#[test]
fn the_key_of_a_lease_that_nobody_here_knows_is_respected() {
    let mixed = Mixed::new();
    let foreign = format!("locked_by_asr#{}", "0123456789abcdef".repeat(2));
    mixed.server.cli(&["SET", KEY, &foreign]);
    let said = refusal(mixed.client().request(task("new")).no_wait().acquire());
    assert!(said.contains(&foreign), "{said}");
    assert_eq!(mixed.value(), foreign);
}

#[test]
fn several_gpus_take_all_their_keys_or_none() {
    let mixed = Mixed::new();
    let two = |options: &mut Options| {
        options.gpus = Some(vec![GpuRef::Index(GpuIndex(0)), GpuRef::Index(GpuIndex(1))]);
    };
    let client = mixed.client_with(two);
    mixed.server.cli(&["SET", "gpu_lock:1", "locked_by_asr", "EX", "3600"]);
    let said = refusal(client.request(task("new")).any(2).no_wait().acquire());
    assert!(said.contains("locked_by_asr"), "{said}");
    assert_eq!(
        (mixed.value().as_str(), mixed.value_of("gpu_lock:1").as_str()),
        ("", "locked_by_asr")
    );

    mixed.server.cli(&["DEL", "gpu_lock:1"]);
    let lease = client.request(task("new")).any(2).acquire().unwrap();
    let value = format!("locked_by_new#{}", lease.id());
    assert_eq!((mixed.value(), mixed.value_of("gpu_lock:1")), (value.clone(), value));
    block_on(lease.release()).unwrap();
    assert_eq!(mixed.value() + &mixed.value_of("gpu_lock:1"), "");
}

#[test]
fn another_pool_has_keys_of_its_own_and_no_prefix_stands_in_front_of_them() {
    let server = RedisServer::start();
    let world = World::at(format!("{}&prefix=lab:", trusted(&server)));
    let client = world.client_with(|options| {
        (options.legacy_keys, options.pool) = (true, "lab".parse().unwrap());
    });
    let lease = client.request(task("new")).acquire().unwrap();
    let value = server.cli(&["GET", "gpu_lock:lab/0"]);
    assert_eq!(value.trim(), format!("locked_by_new#{}", lease.id()));
}

/// See docs/guides/migrate.md.
#[test]
fn the_rights_that_the_guide_adds_are_enough() {
    let mixed = Mixed::new();
    let remarks = block_on(mixed.world.store.examine());
    let rights = remarks.iter().find(|remark| remark.subject == "rights").unwrap();
    let more = "~gpu_lock:* &gpu_lock:* +get +set +del +pexpire +pttl";
    let line = format!("{} {more}", rights.hint.clone().unwrap());
    let words: Vec<_> = line.split_whitespace().collect();
    mixed.server.cli(&words);
    let url = trusted(&mixed.server).replace("redis://", "redis://gpulock:PASSWORD@");
    let world = World::at(url);
    let client = world.client_with(|options| options.legacy_keys = true);

    assert!(mixed.older_takes("asr", 3_600_000));
    let waiting = client.request(task("new")).start().unwrap();
    mixed.until_somebody_listens();
    mixed.older_releases("asr");
    let lease = block_on(waiting).unwrap();
    block_on(lease.release()).unwrap();
    assert_eq!(mixed.value(), "");
}

#[test]
fn a_new_worker_without_the_setting_leaves_the_keys_alone() {
    let mixed = Mixed::new();
    assert!(mixed.older_takes("asr", 3_600_000));
    mixed.world.client().request(task("new")).acquire().unwrap();
    assert_eq!(mixed.value(), "locked_by_asr");
}

#[test]
fn a_store_without_older_workers_is_refused() {
    for world in [World::sqlite(), World::memory()] {
        let options = Options { legacy_keys: true, ..patient() };
        let refused = Client::builder(Arc::clone(&world.store)).options(options).build();
        let error = refused.expect_err("it has no such keys");
        assert!(matches!(error, Error::NoLockKeys), "{error}");
        assert!(error.to_string().contains("compat.legacy_keys"));
        assert!(error.hint().is_some_and(|hint| hint.contains("store")));
    }
}
