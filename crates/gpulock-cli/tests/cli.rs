//! The command `gpulock` as its users meet it: the real program, real processes, a real
//! terminal. Every test has a store of its own and a clean environment.
//!
//! Nothing here measures time. What must not happen at the same time, or must happen in a
//! certain order, is proved by files that the commands themselves write.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod cli {
    mod alerts;
    mod bad_input;
    mod bad_stores;
    mod chaos;
    mod configuration;
    mod deadlines;
    mod death;
    mod deploy;
    mod generated;
    mod guides;
    mod history;
    mod mounts;
    mod program;
    mod progress;
    mod pseudo_terminal;
    mod queue;
    mod redis;
    mod reference;
    mod release;
    mod run;
    mod scene;
    mod serve;
    mod signals;
    mod status;
    mod terminal;
    mod users;
    mod verify;
    mod work;
}
