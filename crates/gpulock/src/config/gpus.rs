//! Which GPUs of a host are lent out.

use std::fmt;

use gpulock_core::GpuRef;

use super::raw::{Raw, Wrong};

/// The GPUs of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// All that the host has.
    Auto,
    /// These alone; not empty, none twice.
    These(Vec<GpuRef>),
}

/// Reads `auto` or a list of names.
pub(super) fn read(raw: &Raw) -> Result<Gpus, Wrong> {
    if matches!(raw, Raw::Text(text) if text == "auto") {
        return Ok(Gpus::Auto);
    }
    let names = raw.each(read_name)?;
    if names.is_empty() {
        return Err(Wrong::new("names no GPU", "write `auto`, or a list such as [0, 1]"));
    }
    let twice = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name));
    if let Some((_, name)) = twice {
        return Err(Wrong::new(format!("names GPU {name} twice"), "write each GPU once"));
    }
    Ok(Gpus::These(names))
}

fn read_name(text: &str) -> Result<GpuRef, Wrong> {
    let hint = "write `auto`, indices such as [0, 1], or UUIDs as `nvidia-smi -L` prints them";
    text.parse().map_err(|_| Wrong::value(text, "not a GPU", hint))
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::These(names) => {
                let names: Vec<_> = names.iter().map(GpuRef::to_string).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_indices_or_uuids() {
        let gpus = read(&Raw::from_text("0, GPU-8e1c9a52-0000,MIG-8e1c/1/0")).unwrap();
        assert_eq!(gpus.to_string(), "0,GPU-8e1c9a52-0000,MIG-8e1c/1/0");
        assert_eq!(read(&Raw::from_text("auto")).unwrap(), Gpus::Auto);
    }

    #[test]
    fn no_gpu_the_same_gpu_and_strange_names_are_refused() {
        for text in [",", "0,0", "-1", "1.5", "all", "GPU-", "GPU-a b", "auto,1"] {
            assert!(read(&Raw::from_text(text)).is_err(), "{text}");
        }
        assert!(read(&Raw::List(Vec::new())).is_err());
    }
}
