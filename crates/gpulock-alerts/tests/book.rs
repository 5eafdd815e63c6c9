//! The book of alerts from outside, with a clock that the tests set.

mod book {
    mod changes;
    mod climbing;
    mod deliveries;
    mod feeds;
    mod looks;
    mod mutes;
    mod office;
    mod random;
    mod rhythm;
    mod routes;
    mod storms;
}
