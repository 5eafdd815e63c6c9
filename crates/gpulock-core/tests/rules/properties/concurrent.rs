//! Two clients look at the same record and decide at the same time. A store writes the second
//! decision only if nothing that it read was changed by the first. That must be enough.

use gpulock_core::invariants::broken_by_step;
use gpulock_core::{Changes, Command, Pool, Record, Step, Time};
use proptest::prelude::*;

use super::orders::{Order, Script, orders};
use crate::rules::support::*;

/// Whether a store turns `second` down because `first` was written meanwhile.
fn conflict(first: &Changes, second: &Changes) -> bool {
    let wrote_leases = first.ledger.is_some() || !first.leases.is_empty();
    let wrote_queue = !first.waiters.is_empty();
    second.reads.leases && wrote_leases || second.reads.queue && wrote_queue
}

/// What a client makes of the record as it is now.
fn decide(record: &mut Record, now: Time, command: &Command) -> Option<Step> {
    let mut pool = record.view(asking(command), now);
    pool.step(now, command.clone()).ok()
}

/// Both clients look, then both write. The second does it over if it has to. Tells whether
/// anything was decided.
fn at_the_same_time(desk: &mut Desk, first: &Command, second: &Command) -> bool {
    let (now, record) = (desk.now, &mut desk.record);
    let (one, other) = (decide(record, now, first), decide(record, now, second));
    let Some(one) = one else { return false };
    record.apply(&one.changes);
    let mut again = one.again;
    if let Some(other) = other {
        let leased = other.changes.unless_leased.is_some_and(|id| desk.record.is_leased(id));
        if leased || conflict(&one.changes, &other.changes) {
            desk.run(second.clone()).ok();
        } else {
            desk.record.apply(&other.changes);
            again |= other.again;
        }
    }
    if again {
        desk.tick();
    }
    true
}

/// The commands of both orders, if both mean something now.
fn both(script: &mut Script, pair: &[Order]) -> Option<(Command, Command)> {
    Some((script.command(&pair[0])?, script.command(pair.get(1)?)?))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn two_decisions_at_the_same_time_are_as_good_as_one_after_the_other(
        gpus in 1u32..=3,
        orders in orders(),
    ) {
        let mut script = Script::new(gpus);
        for pair in orders.chunks(2) {
            if let Some((first, second)) = both(&mut script, pair) {
                if !at_the_same_time(&mut script.desk, &first, &second) {
                    continue;
                }
                let after: Pool = script.desk.view();
                let broken = broken_by_step(&after, &after, script.desk.now, &nothing_done());
                prop_assert_eq!(broken, None, "{:?} and {:?}", first, second);
            } else {
                pair.iter().for_each(|order| { script.play(order); });
            }
        }
    }
}
