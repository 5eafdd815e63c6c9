//! Who goes first.

use gpulock_core::{LOOK_AHEAD, Lease, Priority, Reply, Request};

use crate::rules::support::*;

const PASS_BOUND: u64 = 60;

/// A desk whose only GPU is taken.
fn busy_desk() -> (Desk, Lease) {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(100));
    (desk, lease)
}

/// Releases what is held until nobody is left and tells who was served, in order.
fn served_in_turn(desk: &mut Desk, mut held: Lease, all: &[Request]) -> Vec<String> {
    let mut served = Vec::new();
    while desk.release(&held).reply == Reply::Done {
        let Some(next) = all.iter().find(|request| desk.holds(request)) else {
            break;
        };
        served.push(next.task.to_string());
        held = desk.take(next);
    }
    served
}

#[test]
fn equals_are_served_in_the_order_of_arrival() {
    let (mut desk, lease) = busy_desk();
    let all = [work(3), work(1), work(2)];
    all.iter().for_each(|request| desk.queue(request));
    assert_eq!(served_in_turn(&mut desk, lease, &all), ["work 3", "work 1", "work 2"]);
    assert_eq!(desk.free(), [0]);
}

#[test]
fn a_higher_priority_goes_before_every_lower_one_that_came_earlier() {
    let (mut desk, lease) = busy_desk();
    let all = [
        work(1).urgency(Priority::Low),
        work(2).urgency(Priority::Normal),
        work(3).urgency(Priority::Urgent),
        work(4).urgency(Priority::High),
        work(5).urgency(Priority::Urgent),
    ];
    all.iter().for_each(|request| desk.queue(request));
    let expected = ["work 3", "work 5", "work 4", "work 2", "work 1"];
    assert_eq!(served_in_turn(&mut desk, lease, &all), expected);
}

#[test]
fn a_release_hands_the_gpu_on_in_the_same_step() {
    let (mut desk, lease) = busy_desk();
    desk.queue(&work(1));
    desk.release(&lease);
    assert_eq!(desk.gpus(&work(1)), [0]);
    assert_eq!(desk.waiting(), []);
}

#[test]
fn nobody_waits_for_a_free_gpu() {
    let mut desk = Desk::with_gpus(2);
    assert_eq!(desk.take(&work(1)).gpus.len(), 1);
    assert_eq!(desk.take(&work(2)).gpus.len(), 1);
    desk.queue(&work(3));
}

#[test]
fn asking_again_keeps_the_place_in_the_queue() {
    let (mut desk, lease) = busy_desk();
    desk.queue(&work(1));
    desk.queue(&work(2));
    desk.pass(secs(5));
    desk.queue(&work(1));
    assert_eq!(desk.record.ahead_of(work(1).lease_id), Some(0));
    assert_eq!(desk.record.ahead_of(work(2).lease_id), Some(1));
    assert_eq!(desk.waiting().len(), 2);
    desk.release(&lease);
    assert!(desk.holds(&work(1)));
}

#[test]
fn two_of_three_gpus_are_granted_at_once_or_not_at_all() {
    let mut desk = Desk::with_gpus(3);
    let (first, second) = (desk.take(&work(1)), desk.take(&work(2)));
    let pair = work(3).any(2);
    desk.queue(&pair);
    assert_eq!(desk.free(), [2], "a request that cannot be met holds nothing");
    desk.release(&second);
    assert_eq!(desk.gpus(&pair), [1, 2]);
    assert!(desk.holds(&work(1)));
    desk.release(&first);
    assert_eq!(desk.free(), [0]);
}

#[test]
fn several_named_gpus_are_granted_at_once_or_not_at_all() {
    let mut desk = Desk::with_gpus(3);
    let middle = desk.take(&work(1).on(&[1]));
    let pair = work(2).on(&[2, 1, 2]);
    desk.queue(&pair);
    assert_eq!(desk.free(), [0, 2]);
    desk.release(&middle);
    assert_eq!(desk.gpus(&pair), [1, 2]);
}

#[test]
fn whoever_takes_any_gpu_leaves_the_one_that_a_waiter_names() {
    let mut desk = Desk::with_gpus(3);
    let last = desk.take(&work(1).on(&[2]));
    desk.queue(&work(2).on(&[0, 2]));
    assert_eq!(desk.take(&work(3)).gpus[0].0, 1, "0 is named, so 1 is taken");
    desk.release(&last);
    assert!(desk.holds(&work(2)));
}

#[test]
fn a_gpu_that_a_waiter_names_is_lent_all_the_same_when_there_is_no_other() {
    let mut desk = Desk::with_gpus(2);
    desk.take(&work(1).on(&[1]));
    desk.queue(&work(2).on(&[0, 1]));
    assert_eq!(desk.take(&work(3)).gpus[0].0, 0);
}

#[test]
fn a_named_gpu_does_not_wait_behind_a_queue_for_another() {
    let mut desk = Desk::with_gpus(2);
    desk.take(&work(1_000).on(&[0]));
    (0..100).for_each(|id| desk.queue(&work(id).on(&[0])));
    assert_eq!(desk.take(&work(2_000).on(&[1])).gpus[0].0, 1);
}

#[test]
fn small_requests_pass_a_large_one_until_it_has_waited_for_the_pass_bound() {
    let mut desk = Desk::with_gpus(2);
    desk.take(&work(1).fixed(1_000));
    let large = work(2).any(2).patient(1_000);
    desk.queue(&large);
    let mut small = desk.take(&work(10));
    for id in 11..17 {
        desk.pass(secs(PASS_BOUND / 6));
        desk.release(&small);
        small = desk.take(&work(id));
    }
    desk.release(&small);
    desk.pass(secs(1));
    desk.queue(&work(20));
    assert_eq!(desk.free().len(), 1, "kept for the large one");
}

#[test]
fn once_first_in_line_a_large_request_waits_for_the_pass_bound_and_the_longest_lease() {
    let longest = 30;
    let mut desk = Desk::with_gpus(2);
    let large = work(1).any(2).patient(1_000);
    // The two cards never come free at the same moment by themselves.
    let mut leases = vec![desk.take(&work(2).fixed(longest))];
    desk.pass(secs(longest / 2));
    leases.push(desk.take(&work(3).fixed(longest)));
    desk.queue(&large);
    let mut waited = 0;
    while !desk.holds(&large) {
        assert!(waited <= PASS_BOUND + longest + 1, "starved for {waited} s");
        // Small ones press on without end: two ask anew every second.
        desk.pass(secs(1));
        waited += 1;
        leases.retain(|lease| {
            let over = desk.now >= lease.acquired_at + secs(longest);
            if over {
                desk.release(lease);
            }
            !over
        });
        for id in [10, 11] {
            let request = work(1_000 * id + waited as u32).fixed(longest).without_waiting();
            if let Reply::Granted(lease) = desk.ask(&request) {
                leases.push(lease);
            }
        }
    }
    assert!(waited > PASS_BOUND, "it is passed at first: {waited} s");
}

#[test]
fn a_request_that_keeps_gpus_for_itself_keeps_only_those_that_it_could_use() {
    let mut desk = Desk::with_gpus(3);
    desk.take(&work(1).on(&[1]).fixed(1_000));
    desk.queue(&work(2).on(&[0, 1]).patient(1_000));
    desk.pass(secs(PASS_BOUND + 1));
    assert_eq!(desk.take(&work(3)).gpus[0].0, 2);
    desk.queue(&work(4));
    assert_eq!(desk.free(), [0]);
}

#[test]
fn what_is_kept_for_one_counts_as_taken_for_all_behind_it() {
    let mut desk = Desk::with_gpus(3);
    desk.take(&work(1).on(&[2]).fixed(1_000));
    desk.queue(&work(2).on(&[0, 2]).patient(1_000));
    desk.pass(secs(PASS_BOUND + 1));
    let middle = desk.take(&work(3));
    desk.queue(&work(4).any(2));
    desk.queue(&work(5).on(&[1]));
    desk.release(&middle);
    assert_eq!(desk.gpus(&work(5)), [1]);
    assert_eq!(desk.free(), [0]);
}

#[test]
fn a_higher_priority_is_not_held_up_by_what_a_lower_one_keeps() {
    let mut desk = Desk::with_gpus(2);
    desk.take(&work(1).fixed(1_000));
    desk.queue(&work(2).any(2).patient(1_000));
    desk.pass(secs(PASS_BOUND + 1));
    desk.queue(&work(3));
    assert!(desk.take(&work(4).urgency(Priority::High)).gpus.len() == 1);
}

#[test]
fn what_was_kept_goes_to_the_next_when_the_one_it_was_kept_for_leaves() {
    let mut desk = Desk::with_gpus(2);
    desk.take(&work(1).fixed(1_000));
    let large = work(2).any(2).patient(1_000);
    desk.queue(&large);
    desk.pass(secs(PASS_BOUND + 1));
    desk.queue(&work(3));
    desk.cancel(&large);
    assert!(desk.holds(&work(3)));
}

#[test]
fn a_small_request_passes_one_less_than_the_look_ahead_and_no_more() {
    for before in [LOOK_AHEAD - 1, LOOK_AHEAD] {
        let mut desk = Desk::with_gpus(2);
        desk.take(&work(1_000));
        (0..before as u32).for_each(|id| desk.queue(&work(id).any(2)));
        let reply = desk.ask(&work(2_000));
        let passes = matches!(reply, Reply::Granted(_));
        assert_eq!(passes, before < LOOK_AHEAD, "{before} before it: {reply:?}");
    }
}

#[test]
fn the_look_ahead_counts_every_lane_by_itself() {
    let mut desk = Desk::with_gpus(3);
    let blocker = desk.take(&work(1_000).on(&[0]));
    (0..100).for_each(|id| desk.queue(&work(id).on(&[0])));
    (100..150).for_each(|id| desk.queue(&work(id).any(3)));
    assert_eq!(desk.take(&work(2_000).on(&[1])).gpus[0].0, 1);
    assert_eq!(desk.take(&work(2_001).on(&[2])).gpus[0].0, 2);
    desk.release(&blocker);
    assert!(desk.holds(&work(0)));
}

#[test]
fn waiters_that_died_do_not_hide_the_living_behind_them() {
    let (mut desk, lease) = busy_desk();
    let dead = 5 * LOOK_AHEAD as u32;
    (0..dead).for_each(|id| desk.queue(&work(id).patient(10)));
    desk.pass(secs(11));
    let living = work(2_000);
    desk.queue(&living);
    desk.release(&lease);
    assert!(desk.holds(&living));
    assert_eq!(desk.view().ledger.counters.dropped, u64::from(dead));
}
