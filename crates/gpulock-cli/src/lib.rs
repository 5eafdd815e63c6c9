//! The command line of gpulock: arguments in `args`, one file for each command in
//! `commands`, everything printed through `output`, exit codes in `exit`, the reference
//! pages in `reference`.

pub mod args;
mod commands;
mod daemon;
mod exit;
mod output;
mod program;
pub mod reference;
mod run;
mod session;

pub use program::main;
