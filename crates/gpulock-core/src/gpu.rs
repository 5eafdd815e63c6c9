//! The cards of a pool.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a GPU in its pool, as the driver counts them (PCI bus order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuIndex(pub u32);

impl fmt::Display for GpuIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One card.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gpu {
    /// Its number in the pool.
    pub index: GpuIndex,
    /// The driver's UUID, such as `GPU-8f3a…`; `None` when no driver was there to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The product name; `None` when no driver was there to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// A GPU as a user names it: by index or by UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GpuRef {
    /// By its number.
    Index(GpuIndex),
    /// By the driver's UUID (`GPU-…` or `MIG-…`).
    Uuid(String),
}

impl FromStr for GpuRef {
    type Err = NotAGpu;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(GpuIndex(index)));
        }
        let id = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"));
        let named_like_one = id.is_some_and(|id| !id.is_empty());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/'));
        if named_like_one && plain && text.len() <= 128 {
            return Ok(Self::Uuid(text.to_owned()));
        }
        Err(NotAGpu)
    }
}

/// The text names no GPU.
#[derive(Debug, thiserror::Error)]
#[error("a GPU is named by its number (0) or its UUID (GPU-…)")]
pub struct NotAGpu;

impl fmt::Display for GpuRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
        }
    }
}

/// The cards of a pool and how they became known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inventory {
    /// Who said so.
    pub source: InventorySource,
    /// The cards, each index once, in rising order.
    pub gpus: Vec<Gpu>,
}

/// How the cards of a pool became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InventorySource {
    /// The driver listed them.
    Driver,
    /// The configuration lists them.
    Configuration,
    /// There was neither driver nor list: one card `0` is assumed.
    Assumed,
}

impl Inventory {
    /// The one card that is assumed where neither driver nor configuration names any.
    pub fn assumed() -> Self {
        let card = Gpu { index: GpuIndex(0), uuid: None, model: None };
        Self { source: InventorySource::Assumed, gpus: vec![card] }
    }

    /// The card that `name` means, if the pool has it.
    pub fn find(&self, name: &GpuRef) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| match name {
            GpuRef::Index(index) => gpu.index == *index,
            GpuRef::Uuid(uuid) => gpu.uuid.as_ref() == Some(uuid),
        })
    }
}

impl fmt::Display for Inventory {
    /// `GPU 0`, `GPUs 0, 1 and 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.gpus.len() == 1 { "GPU " } else { "GPUs " })?;
        for (place, gpu) in self.gpus.iter().enumerate() {
            let joint = match place {
                0 => "",
                _ if place + 1 == self.gpus.len() => " and ",
                _ => ", ",
            };
            write!(f, "{joint}{}", gpu.index)?;
        }
        Ok(())
    }
}
