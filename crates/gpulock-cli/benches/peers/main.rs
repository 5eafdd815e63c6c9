//! gpulock on Redis side by side with other locks, in one run on private servers:
//! `scripts/bench-peers`. docs/reference/peers.md says what each row means.
//!
//! Every lock is used by worker processes of its own ([`crew`]): this program again with the
//! argument `worker` for what is written in Rust, `worker.py` for Python. Each cell of the
//! table gets a server of its own.
//!
//! Nothing is asserted: it prints a table in Markdown. Names (`-- pair crash`) run those
//! rows alone.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::print_stderr, reason = "a benchmark says what went wrong")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run ends")]

mod baton;
mod crew;
mod gate;
mod locks;
mod part;
mod peer;
mod redis_counts;
mod rows;
mod servers;
mod stand_in;
mod table;
mod turns;
mod worker;

fn main() {
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if words.first().is_some_and(|word| word == "worker") {
        return worker::main(&words[1..]);
    }
    let unknown = words.iter().find(|word| rows::ALL.iter().all(|(name, _)| name != word));
    if let Some(word) = unknown {
        let names: Vec<_> = rows::ALL.iter().map(|(name, _)| *name).collect();
        return println!("there is no row '{word}': {}", names.join(" "));
    }
    table::head();
    for (name, row) in rows::ALL {
        if words.is_empty() || words.iter().any(|word| word == name) {
            row();
        }
    }
}
