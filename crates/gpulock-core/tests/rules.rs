//! The rules from outside, in one binary: told as stories, driven by random commands, searched
//! exhaustively, and read from records of earlier versions.

mod rules {
    mod model;
    mod properties;
    mod scenarios;
    mod support;
    mod upgrades;
}
