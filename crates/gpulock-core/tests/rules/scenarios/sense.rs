//! Requests that make no sense, pools that change, and the words that people read.

use gpulock_core::{
    Command, Gpu, GpuIndex, GpuRef, Inventory, InventorySource, Record, Refusal, Settings, Wish,
};

use crate::rules::support::*;

#[test]
fn a_wait_for_oneself_on_a_named_gpu_is_refused() {
    let mut desk = Desk::with_gpus(2);
    let outer = work(1).on(&[1]);
    desk.take(&outer);
    let refusal = desk.refused(&work(2).on(&[0, 1]).inside(&[&outer]));
    let (lease_id, gpu) = (outer.lease_id, GpuIndex(1));
    assert_eq!(refusal, Refusal::SelfWait { lease_id, gpu });
    let id = format!("{:032x}", 1);
    let text = format!("the request would wait for its own lease {id} on GPU 1");
    assert_eq!(refusal.to_string(), text);
}

#[test]
fn a_wait_for_oneself_on_any_gpu_is_refused() {
    let mut desk = Desk::with_gpus(2);
    let outer = work(1);
    desk.take(&outer);
    assert!(matches!(
        desk.refused(&work(2).any(2).inside(&[&outer])),
        Refusal::SelfWait { gpu: GpuIndex(0), .. }
    ));
    assert_eq!(desk.take(&work(3).any(1).inside(&[&outer])).gpus.len(), 1);
}

#[test]
fn a_wait_for_oneself_through_several_nested_leases_is_refused() {
    let mut desk = Desk::with_gpus(3);
    let (outer, middle) = (work(1), work(2));
    desk.take(&outer);
    desk.take(&middle.clone().inside(&[&outer]));
    let around = [&outer, &middle];
    assert!(matches!(desk.refused(&work(3).any(2).inside(&around)), Refusal::SelfWait { .. }));
    assert!(matches!(desk.refused(&work(4).on(&[0]).inside(&around)), Refusal::SelfWait { .. }));
    desk.take(&work(5));
    desk.queue(&work(6).inside(&around));
}

#[test]
fn a_lease_that_has_ended_is_no_reason_to_refuse() {
    let mut desk = Desk::with_gpus(1);
    let outer = desk.take(&work(1));
    desk.release(&outer);
    assert_eq!(desk.take(&work(2).inside(&[&work(1)])).gpus.len(), 1);
}

#[test]
fn asking_again_inside_ones_own_lease_is_no_wait_for_oneself() {
    let mut desk = Desk::with_gpus(1);
    let request = work(1);
    let lease = desk.take(&request);
    assert_eq!(desk.take(&request.clone().inside(&[&request])), lease);
}

#[test]
fn a_lease_on_a_gpu_that_left_the_pool_is_no_reason_to_refuse_another() {
    let mut desk = Desk::with_gpus(2);
    let outer = work(1).on(&[1]);
    desk.take(&outer);
    desk.configure(1);
    assert_eq!(desk.take(&work(2).inside(&[&outer])).gpus[0].0, 0);
}

#[test]
fn what_the_pool_does_not_have_is_refused_with_what_it_has() {
    let mut desk = Desk::with_gpus(3);
    let texts = [
        (work(1).on(&[5]), "there is no GPU 5 in this pool, which has GPUs 0, 1 and 2"),
        (work(2).any(4), "the pool cannot lend any 4 GPUs: it has GPUs 0, 1 and 2"),
        (work(3).any(0), "a request names at least one GPU"),
        (work(4).on(&[]), "a request names at least one GPU"),
    ];
    for (request, text) in texts {
        assert_eq!(desk.refused(&request).to_string(), text);
    }
    let mut unknown = work(5);
    unknown.wish = Wish::Named(vec![GpuRef::Uuid("GPU-ffff".to_owned())]);
    let text = "there is no GPU GPU-ffff in this pool, which has GPUs 0, 1 and 2";
    assert_eq!(desk.refused(&unknown).to_string(), text);
}

#[test]
fn a_gpu_is_found_by_its_uuid() {
    let mut desk = Desk::with_gpus(2);
    let mut request = work(1);
    request.wish = Wish::Named(vec![GpuRef::Uuid("GPU-1111".to_owned())]);
    assert_eq!(desk.take(&request).gpus, [GpuIndex(1)]);
}

#[test]
fn a_pool_that_was_never_told_its_gpus_lends_none() {
    let mut desk = Desk { record: Record::default(), now: START };
    assert_eq!(desk.refused(&work(1)), Refusal::NoInventory);
    assert_eq!(desk.refused(&work(1)).to_string(), "the pool does not know its GPUs yet");
}

#[test]
fn a_pool_cannot_be_told_that_it_has_no_gpu() {
    let mut desk = Desk::with_gpus(1);
    let inventory = Inventory { source: InventorySource::Configuration, gpus: vec![] };
    let settings = Settings::default();
    let refusal = desk.run(Command::Configure { inventory, settings }).unwrap_err();
    assert_eq!(refusal.to_string(), "a pool needs at least one GPU");
}

#[test]
fn with_fewer_gpus_a_waiter_that_can_never_be_met_is_dropped() {
    let mut desk = Desk::with_gpus(3);
    let lease = desk.take(&work(1).any(3));
    let (named, pair, one) = (work(2).on(&[2]), work(3).any(3), work(4));
    [&named, &pair, &one].into_iter().for_each(|request| desk.queue(request));
    desk.configure(2);
    desk.release(&lease);
    assert_eq!(desk.waiting(), []);
    assert!(desk.holds(&one));
    assert_eq!(desk.view().ledger.counters.dropped, 2);
}

#[test]
fn more_gpus_are_handed_out_at_once() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    desk.queue(&work(2));
    desk.configure(2);
    assert_eq!(desk.gpus(&work(2)), [1]);
}

#[test]
fn a_gpu_that_left_the_pool_is_not_lent_again() {
    let mut desk = Desk::with_gpus(2);
    let lease = desk.take(&work(1).on(&[1]));
    desk.configure(1);
    desk.take(&work(2));
    desk.queue(&work(3));
    assert!(desk.holds(&work(1)), "a lease outlives the card's place in the pool");
    desk.release(&lease);
    assert_eq!(desk.record.ahead_of(work(3).lease_id), Some(0));
}

#[test]
fn telling_a_pool_what_it_knows_changes_nothing() {
    let mut desk = Desk::with_gpus(2);
    let step = desk.configure(2);
    assert_eq!(step.events, []);
    assert!(step.changes.is_empty());
}

#[test]
fn where_nobody_knows_better_one_card_is_assumed() {
    let card = Gpu { index: GpuIndex(0), uuid: None, model: None };
    assert_eq!(Inventory::assumed().gpus, [card]);
    assert_eq!(Inventory::assumed().to_string(), "GPU 0");
}

#[test]
fn wishes_are_read_out_in_plain_words() {
    let inventory = cards(3);
    let words = |wish: Wish| wish.resolve(&inventory).unwrap().to_string();
    assert_eq!(words(work(1).any(1).wish), "any GPU");
    assert_eq!(words(work(1).any(2).wish), "any 2 GPUs");
    assert_eq!(words(work(1).on(&[2]).wish), "GPU 2");
    assert_eq!(words(work(1).on(&[1, 0]).wish), "GPUs 0 and 1");
    assert_eq!(words(work(1).on(&[2, 1, 0]).wish), "GPUs 0, 1 and 2");
}

/// A place in the queue is for what was asked for when it was taken: it is given up before another
/// one is taken.
#[test]
fn who_asks_for_something_else_after_the_pool_has_shrunk_joins_anew() {
    let mut desk = Desk::with_gpus(2);
    desk.take(&work(1).any(2).seen_from(beta()));
    desk.queue(&work(2).any(2).patient(100));
    desk.queue(&work(3).patient(100));
    desk.configure(1);
    desk.pass(secs(31));
    desk.tick();
    desk.pass(secs(2));
    desk.queue(&work(2).patient(100));
    assert!(desk.holds(&work(3)));
    assert_eq!(desk.waiting(), [], "the old place is gone");
    desk.queue(&work(2).patient(100));
    assert_eq!(desk.waiting()[0].wants, gpulock_core::Wants::Any(1));
}
