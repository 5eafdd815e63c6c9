//! The program `gpulock`. Everything is in the library, so that tests can reach it.

fn main() -> std::process::ExitCode {
    gpulock_cli::main()
}
