//! The rules searched exhaustively: a few owners on one host, a clock of a few ticks, crashes,
//! frozen processes, lost replies and late copies of commands, in every order that there is.
//!
//! The search asks for more than the invariants of the record. It follows who really *uses* a
//! card: from the moment an owner knows of its lease until its process, or the group that
//! works for it, is gone or has stopped. Two must never use one card at the same time.

mod actor;
mod world;

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use self::actor::{Actor, Stage};
use self::world::{Act, Fault, Plan, World};

const ONE_USER: &str = "no two processes use one GPU";
const INVARIANTS: &str = "no step breaks an invariant";

/// A pool, those who want its cards, and how much may go wrong.
#[derive(Clone)]
struct Setting {
    gpus: u32,
    plans: Vec<Plan>,
    /// How often the clock moves.
    ticks: u64,
    /// How many replies may be lost, and commands delayed or repeated.
    mishaps: u8,
    crashes: u8,
    freezes: u8,
    /// How often somebody takes a lease away.
    seizures: u8,
    fault: Fault,
}

impl Model for Setting {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Act>) {
        if world.broken.is_none() {
            world.possible(self, actions);
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let mut next = world.clone();
        next.take_place(self, act);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = sights();
        properties.extend([
            Property::always(INVARIANTS, |_, world: &World| world.broken.is_none()),
            Property::always(ONE_USER, |setting: &Self, world: &World| world.is_sane(setting)),
        ]);
        properties
    }
}

/// What shall happen now and then, or the search goes nowhere.
fn sights() -> Vec<Property<Setting>> {
    vec![
        Property::sometimes("a waiter is granted while it sleeps", |_, world: &World| {
            world.leases().iter().any(|lease| {
                !lease.supervised
                    && lease.deadline().is_some()
                    && !lease.is_over()
                    && matches!(lease.phase, gpulock_core::Phase::Granted { .. })
            })
        }),
        Property::sometimes(
            "a GPU drains while it is still in use",
            |setting: &Setting, world: &World| {
                world
                    .leases()
                    .iter()
                    .any(|lease| lease.is_over() && world.user_of(setting, lease.gpus[0]).is_some())
            },
        ),
        Property::sometimes("a group outlives its supervisor", |_, world: &World| {
            world.actors.iter().any(|actor| !actor.alive && actor.group_alive)
        }),
        Property::sometimes(
            "a frozen holder that knows nothing of it is succeeded",
            |setting: &Setting, world: &World| {
                let overtaken = |actor: &Actor| {
                    let Stage::Using { gpus, .. } = &actor.stage else {
                        return false;
                    };
                    actor.frozen && !actor.group_alive && {
                        let user = world.user_of(setting, gpus[0]);
                        user.is_some_and(|user| world.actors[user] != *actor)
                    }
                };
                world.actors.iter().any(overtaken)
            },
        ),
        Property::sometimes("a holder is told that its lease is lost", |_, world: &World| {
            world.actors.iter().any(|actor| actor.stage == Stage::Robbed)
        }),
        Property::sometimes("everybody is done and every GPU is free", |_, world: &World| {
            world.actors.iter().all(|actor| actor.stage == Stage::Done && actor.alive)
                && world.leases().is_empty()
        }),
    ]
}

/// One card and three owners: the second supervises a group, the third is more urgent.
fn one_gpu() -> Setting {
    Setting {
        gpus: 1,
        plans: vec![Plan::normal(), Plan::normal().supervised(), Plan::normal().urgent()],
        ticks: 2,
        mishaps: 1,
        crashes: 1,
        freezes: 1,
        seizures: 0,
        fault: Fault::None,
    }
}

/// The first owner comes back a second time under the same id, as a task that is delivered
/// again does.
fn one_gpu_asked_for_twice() -> Setting {
    let plans = vec![Plan::normal().twice(), Plan::normal().supervised(), Plan::normal().urgent()];
    Setting { plans, crashes: 0, freezes: 0, ..one_gpu() }
}

/// Two cards; one owner wants both, one names a card, one is more urgent.
fn two_gpus() -> Setting {
    let plans =
        vec![Plan::normal().any(2), Plan::normal().named(0).supervised(), Plan::normal().urgent()];
    Setting { gpus: 2, plans, ..one_gpu() }
}

/// With a reliable network there is time for one more tick.
fn longer(setting: Setting) -> Setting {
    Setting { ticks: 3, mishaps: 0, ..setting }
}

/// Every promise holds in every state, and everything that shall happen sometimes happens in
/// one of the searches.
fn holds_everywhere(name: &str, settings: Vec<Setting>) -> String {
    let mut report = String::new();
    let mut missing: Option<BTreeSet<&str>> = None;
    for setting in settings {
        let checker = setting.checker().threads(2).spawn_bfs().join();
        let mut unseen = BTreeSet::new();
        for Property { expectation, name, .. } in checker.model().properties() {
            match expectation {
                Expectation::Always => checker.assert_no_discovery(name),
                _ if checker.discovery(name).is_none() => _ = unseen.insert(name),
                _ => {}
            }
        }
        let (states, steps) = (checker.unique_state_count(), checker.state_count());
        report += &format!("{name}: {states} unique states, {steps} transitions\n");
        missing = Some(missing.map_or(unseen.clone(), |missing| &missing & &unseen));
    }
    assert_eq!(missing, Some(BTreeSet::new()), "never happened");
    report
}

#[test]
fn with_one_gpu_every_promise_holds_in_every_order_of_events() {
    let seized = Setting { crashes: 0, seizures: 1, ..longer(one_gpu()) };
    let settings = vec![one_gpu(), one_gpu_asked_for_twice(), longer(one_gpu()), seized];
    println!("{}", holds_everywhere("one GPU", settings));
}

#[test]
fn with_two_gpus_every_promise_holds_in_every_order_of_events() {
    let unfrozen = Setting { freezes: 0, ..two_gpus() };
    println!("{}", holds_everywhere("two GPUs", vec![unfrozen, longer(two_gpus())]));
}

/// The search is worth nothing if it overlooks what it is there to find.
fn finds(fault: Fault, setting: Setting) {
    let setting = Setting { fault, ..setting };
    let found = HasDiscoveries::AnyFailures;
    let checker = setting.checker().threads(2).finish_when(found).spawn_bfs().join();
    assert!(checker.discovery(ONE_USER).is_some(), "overlooked: {fault:?}");
}

#[test]
fn the_search_finds_a_lease_that_is_free_as_soon_as_it_expires() {
    finds(Fault::FreeAtExpiry, one_gpu());
}

#[test]
fn the_search_finds_a_release_that_does_not_look_at_the_token() {
    finds(Fault::TokenIgnored, one_gpu_asked_for_twice());
}

#[test]
fn an_observer_that_read_the_lease_before_it_was_claimed_does_no_harm() {
    for fault in [Fault::HastyObserver, Fault::EarlyReader] {
        let setting = Setting { fault, ..one_gpu() };
        let checker = setting.checker().threads(2).spawn_bfs().join();
        checker.assert_no_discovery(ONE_USER);
        checker.assert_no_discovery(INVARIANTS);
    }
}
