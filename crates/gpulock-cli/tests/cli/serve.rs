//! `gpulock serve` as operators and HTTP callers meet it: the real program, asked over sockets.

mod alerts;
mod alerts_api;
mod daemon;
mod events;
mod leases;
mod levels;
mod operation;
mod paths;
mod release;
mod stand_ins;
mod tasks;
