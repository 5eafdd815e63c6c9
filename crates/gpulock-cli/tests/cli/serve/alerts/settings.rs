//! The section `alerts` as it is read: at the start, and again when it changes.

use super::book::Ledger;
use super::config;
use super::receiver::Receiver;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

#[test]
fn a_new_channel_counts_without_a_restart_and_a_broken_section_does_not() {
    let (first, second) = (Receiver::start(), Receiver::start());
    let scene = Scene::with_config(&config(&[first.webhook("first")], "0s", ""));
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&scene.store_url());
    ledger.raise("one", "something");
    first.until_told("one", 1);
    let both = [first.webhook("first"), second.webhook("second")];
    scene.write("config.yml", config(&both, "0s", ""));
    daemon.until_it_says("the configuration was read again");
    ledger.raise("two", "something");
    second.until_told("two", 1);
    scene.write("config.yml", config(&both, "0s", ", channels: [nobody]"));
    daemon.until_it_says("the new configuration is refused, the old one stays");
    let log = daemon.log();
    assert!(log.contains("alerts.route.channels"), "{log}");
    assert!(log.contains("config.yml:10"), "{log}");
    ledger.raise("three", "something");
    first.until_told("three", 1);
    second.until_told("three", 1);
    daemon.stop();
}

#[test]
fn a_secret_that_is_not_set_is_named_with_its_place_at_the_start() {
    let mut scene = Scene::with_config(
        "alerts:\n  channels:\n    hook:\n      webhook: {url: \"${HOOK_URL}\"}\n",
    );
    let refused = scene.gpulock(&["serve", "--listen", "127.0.0.1:0"]).expect(65);
    insta::assert_snapshot!(refused.told(), @"
    exit code 65
    --- stderr
    error: failed to understand FOLDER/work/config.yml:4: `alerts.channels.hook.webhook.url` uses the environment variable HOOK_URL, which is not set

    hint: set it, or write a default as ${HOOK_URL:DEFAULT}
    ");
    scene.set("HOOK_URL", "https://example.org/hook");
    let daemon = Daemon::start(&scene);
    daemon.stop();
}
