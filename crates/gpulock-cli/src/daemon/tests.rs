//! The server on a real socket, asked in raw bytes. The routes are samples with a visible
//! state; the guard and all limits are those of `gpulock serve`.

mod answers;
mod browsers;
mod house;
mod limits;
mod sample;
mod stopping;
mod tokens;
