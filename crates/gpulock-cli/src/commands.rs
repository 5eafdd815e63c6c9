//! One file for each command; `gpulock run` has a folder of its own.

pub(crate) mod alerts;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod history;
pub(crate) mod release;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod verify;
