//! Types of the rules as the document of the API describes them: `gpulock-core` knows nothing
//! of such documents.

use utoipa::ToSchema;

/// How the GPUs of a pool became known.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only described, never made")]
pub(super) enum GpusFrom {
    /// The driver was asked.
    Driver,
    /// They are configured.
    Configuration,
    /// There is neither: one GPU, number 0.
    Assumed,
}

/// Who goes first.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only described, never made")]
pub(super) enum PriorityName {
    /// After everybody else.
    Low,
    /// The default.
    Normal,
    /// Before normal.
    High,
    /// Before everybody else.
    Urgent,
}

/// Certain GPUs by number, or how many of any.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described, never made")]
pub(super) enum Gpus {
    /// These.
    These(Vec<u32>),
    /// Any so many.
    Any(u32),
}

#[cfg(test)]
mod tests {
    use gpulock_core::{InventorySource, Priority};
    use serde_json::{Value, json};
    use utoipa::PartialSchema;

    use super::*;

    fn names(schema: impl serde::Serialize) -> Value {
        serde_json::to_value(schema).unwrap()["enum"].clone()
    }

    #[test]
    fn the_described_names_are_those_that_are_written() {
        let sources =
            [InventorySource::Driver, InventorySource::Configuration, InventorySource::Assumed];
        assert_eq!(names(GpusFrom::schema()), json!(sources));
        let priorities = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent];
        assert_eq!(names(PriorityName::schema()), json!(priorities));
    }
}
