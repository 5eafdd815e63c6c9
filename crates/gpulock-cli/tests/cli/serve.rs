//! `gpulock serve` as operators and HTTP callers meet it: the real program, asked over sockets,
//! also when something goes wrong around it.

mod alerts;
mod alerts_api;
mod answer;
mod daemon;
mod events;
mod hang_ups;
mod leases;
mod levels;
mod operation;
mod paths;
mod release;
mod settings;
mod stand_ins;
mod tasks;
