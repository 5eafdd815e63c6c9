//! Each channel against a server of its own that behaves like the real one.

mod channels {
    mod chat;
    mod events;
    mod local;
}
