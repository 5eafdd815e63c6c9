//! What programs say in their own words, and what happened while no daemon ran.

use super::book::Ledger;
use super::config;
use super::receiver::Receiver;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

#[test]
fn an_alert_that_a_program_raises_is_told_in_its_words() {
    let hook = Receiver::start();
    let scene = Scene::with_config(&config(&[hook.webhook("hook")], "0s", ""));
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&scene.store_url());
    ledger.raise("cuda_oom", "the card is full");
    let told = &hook.until_told("cuda_oom", 1)[0];
    let alert = &told.alerts()[0];
    assert_eq!(
        (&alert["labels"]["severity"], &alert["labels"]["pool"]),
        (&"P1".into(), &"default".into())
    );
    assert_eq!(alert["annotations"]["message"], "the card is full");
    assert_eq!(ledger.alert("cuda_oom").summary, "the card is full");
}

#[test]
fn what_happened_while_no_daemon_ran_is_told_and_what_was_before_the_first_is_not() {
    let hook = Receiver::start();
    let scene = Scene::with_config(&config(&[hook.webhook("hook")], "0s", ""));
    let ledger = Ledger::of(&scene.store_url());
    ledger.raise("before_the_first", "long ago");
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    ledger.raise("while_it_ran", "now");
    hook.until_told("while_it_ran", 1);
    daemon.stop();
    ledger.raise("while_none_ran", "unseen");
    let daemon = Daemon::start(&scene);
    hook.until_told("while_none_ran", 1);
    ledger.raise("at_the_end", "last");
    hook.until_told("at_the_end", 1);
    daemon.stop();
    assert_eq!(
        hook.headlines(),
        ["firing while_it_ran ", "firing while_none_ran ", "firing at_the_end "]
    );
}
