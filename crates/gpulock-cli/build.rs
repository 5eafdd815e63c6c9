//! Links the program at a fixed address. Position-independent, every start would first
//! correct some two dozen pages of tables, which is a tenth of the time that
//! `gpulock run -- true` takes. Stack, heap and libraries still lie at random addresses.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo:rustc-link-arg-bin=gpulock=-no-pie");
    }
}
