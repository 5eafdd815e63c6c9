//! Each channel against a server of its own that behaves like the real one.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod channels {
    mod addresses;
    mod alertmanager;
    mod chat;
    mod events;
    mod local;
    mod server;
}
