//! What makes trouble: signals for runs and their commands, and faults of the server.

use std::collections::BTreeMap;
use std::iter::repeat_n;
use std::time::{Duration, Instant};

use gpulock_testbed::RedisServer;

use super::crew::{Blow, Crew};
use super::dice::Dice;

/// Every fault but the death of the server, and how often it comes up.
const LOTTERY: [(usize, &str, Deed); 14] = [
    (4, "kill a holder", Deed::Holder(&[Blow::Kill])),
    (2, "kill a holder and its command", Deed::Holder(&[Blow::KillCommand, Blow::Kill])),
    (4, "freeze a holder", Deed::Holder(&[Blow::Freeze])),
    (2, "freeze a command", Deed::Holder(&[Blow::FreezeCommand])),
    (2, "freeze a holder and its command", Deed::Holder(&[Blow::Freeze, Blow::FreezeCommand])),
    (3, "kill a command", Deed::Holder(&[Blow::KillCommand])),
    (3, "terminate a holder", Deed::Holder(&[Blow::Terminate])),
    (6, "kill a waiter", Deed::Waiter(&[Blow::Kill])),
    (5, "freeze a waiter", Deed::Waiter(&[Blow::Freeze])),
    (4, "terminate a waiter", Deed::Waiter(&[Blow::Terminate])),
    (1, "terminate a frozen waiter", Deed::Waiter(&[Blow::Freeze, Blow::Terminate])),
    (2, "pause the server", Deed::Pause),
    (2, "cut all listeners off", Deed::Tell(&["CLIENT", "KILL", "TYPE", "pubsub"])),
    (2, "make the server forget its scripts", Deed::Tell(&["SCRIPT", "FLUSH"])),
];

const KILL_SERVER: &str = "kill the server";

#[derive(Clone, Copy)]
enum Deed {
    Holder(&'static [Blow]),
    Waiter(&'static [Blow]),
    Pause,
    Tell(&'static [&'static str]),
}

/// Makes trouble, and keeps what it did.
pub(super) struct Nemesis<'a> {
    server: &'a RedisServer,
    start: Instant,
    dice: Dice,
    next: Duration,
    next_kill: Duration,
    /// Who is to be thawed, and when.
    frozen: Vec<(Duration, String, Blow)>,
    /// When the server is to be helped up, if it does not answer.
    down_until: Option<(Duration, Down)>,
    /// What it did, and when.
    pub(super) faults: Vec<(Duration, String)>,
    /// When the server did not answer, since the start of the chaos.
    pub(super) outages: Vec<(Duration, Duration)>,
}

#[derive(Clone, Copy)]
enum Down {
    Killed,
    Paused,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(server: &'a RedisServer, start: Instant, seed: u64) -> Self {
        let (next, next_kill) = (Duration::from_secs(1), Duration::from_secs(4));
        let (frozen, down_until, faults, outages) = Default::default();
        let dice = Dice::new(seed);
        Self { server, start, dice, next, next_kill, frozen, down_until, faults, outages }
    }

    /// Does what is due.
    pub(super) fn step(&mut self, crew: &mut Crew<'_>) {
        let now = self.start.elapsed();
        self.relieve(crew, now);
        if self.next_kill <= now && self.down_until.is_none() {
            self.next_kill = now + self.dice.millis(4_000, 6_000);
            self.kill_server(now);
        }
        if self.next <= now {
            self.next = now + self.dice.millis(100, 500);
            self.do_something(crew, now);
        }
    }

    /// Ends all faults.
    pub(super) fn heal(&mut self, crew: &mut Crew<'_>) {
        self.relieve(crew, Duration::MAX);
    }

    /// How often each fault was done.
    pub(super) fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, fault) in &self.faults {
            let (name, _) = fault.split_once(':').unwrap_or((fault, ""));
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    fn relieve(&mut self, crew: &mut Crew<'_>, now: Duration) {
        self.frozen.retain(|(until, task, frost)| {
            let is_over = *until <= now;
            if is_over {
                crew.thaw(task, *frost);
            }
            !is_over
        });
        if let Some((_, down)) = self.down_until.take_if(|(until, _)| *until <= now) {
            match down {
                Down::Killed => self.server.start_again(),
                Down::Paused => self.server.resume(),
            }
            self.outages.last_mut().unwrap().1 = self.start.elapsed();
        }
    }

    fn do_something(&mut self, crew: &mut Crew<'_>, now: Duration) {
        let mut lots =
            LOTTERY.iter().flat_map(|(lots, name, deed)| repeat_n((*name, *deed), *lots));
        let drawn = self.dice.roll(lots.clone().count() as u64) as usize;
        let (name, deed) = lots.nth(drawn).unwrap();
        match deed {
            Deed::Holder(blows) => self.strike(crew, name, &crew.holders(), blows),
            Deed::Waiter(blows) => self.strike(crew, name, &crew.waiters(), blows),
            // One that is down already takes no orders.
            Deed::Pause | Deed::Tell(_) if self.down_until.is_some() => {}
            Deed::Pause => {
                self.server.pause();
                self.goes_down(now, name, Down::Paused, (500, 3_000));
            }
            Deed::Tell(order) => {
                self.server.cli(order);
                self.faults.push((now, name.to_owned()));
            }
        }
    }

    fn strike(&mut self, crew: &mut Crew<'_>, name: &str, among: &[String], blows: &[Blow]) {
        if among.is_empty() {
            return;
        }
        let now = self.start.elapsed();
        let task = &among[self.dice.roll(among.len() as u64) as usize];
        let until = now + self.dice.millis(200, 4_000);
        let hits: Vec<_> = blows.iter().filter(|blow| crew.strike(task, **blow)).collect();
        let frosts = hits.iter().filter(|blow| blow.is_frost());
        self.frozen.extend(frosts.map(|frost| (until, task.clone(), **frost)));
        if !hits.is_empty() {
            self.faults.push((now, format!("{name}: {task}")));
        }
    }

    fn kill_server(&mut self, now: Duration) {
        self.server.kill();
        self.goes_down(now, KILL_SERVER, Down::Killed, (0, 1_000));
    }

    fn goes_down(&mut self, now: Duration, name: &str, down: Down, (least, most): (u64, u64)) {
        self.down_until = Some((now + self.dice.millis(least, most), down));
        self.outages.push((now, Duration::MAX));
        self.faults.push((now, name.to_owned()));
    }
}
