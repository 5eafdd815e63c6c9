//! Which GPUs this host has.

use std::time::Duration;

use gpulock_core::{Gpu, GpuIndex, GpuRef, Inventory, InventorySource};

use crate::error::Error;

/// How long the driver may take to answer. Loading its library can take half a second; a
/// driver in trouble never answers.
const DRIVER_PATIENCE: Duration = Duration::from_secs(15);

/// The GPUs of the configuration, or those that the driver lists, or one that is assumed
/// where there is no driver.
///
/// # Errors
/// [`Error::Driver`] if there is a driver that does not answer or lists no GPU: then
/// nothing is known, and nothing is assumed.
pub async fn inventory(configured: Option<Vec<GpuRef>>) -> Result<Inventory, Error> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    // A thread of its own: if the driver hangs, it is left behind.
    std::thread::spawn(move || {
        // Nobody waits any more: then nobody wants the answer.
        let _ = answer.send(ask_driver());
    });
    let cards = match tokio::time::timeout(DRIVER_PATIENCE, answered).await {
        Ok(Ok(cards)) => cards,
        Ok(Err(_)) | Err(_) => {
            Err(format!("it did not answer within {} s", DRIVER_PATIENCE.as_secs()))
        }
    };
    match (configured, cards) {
        (Some(names), cards) => Ok(from_list(&names, &cards.ok().flatten().unwrap_or_default())),
        (None, Ok(Some(gpus))) if gpus.is_empty() => Err(Error::Driver("it lists none".to_owned())),
        (None, Ok(Some(gpus))) => Ok(Inventory { source: InventorySource::Driver, gpus }),
        (None, Ok(None)) => Ok(Inventory::assumed()),
        (None, Err(reason)) => Err(Error::Driver(reason)),
    }
}

/// The listed GPUs with what the driver knows of them. A UUID that it does not know gets
/// the first free number.
fn from_list(names: &[GpuRef], cards: &[Gpu]) -> Inventory {
    let driver = Inventory { source: InventorySource::Driver, gpus: cards.to_vec() };
    let mut gpus: Vec<Gpu> = Vec::with_capacity(names.len());
    for name in names {
        let known = driver.find(name).cloned();
        let gpu = known.unwrap_or_else(|| match name {
            GpuRef::Index(index) => Gpu { index: *index, uuid: None, model: None },
            GpuRef::Uuid(uuid) => {
                let taken = |index| gpus.iter().any(|gpu| gpu.index == GpuIndex(index));
                let free = (0..).find(|index| !taken(*index)).unwrap_or_default();
                Gpu { index: GpuIndex(free), uuid: Some(uuid.clone()), model: None }
            }
        });
        if gpus.iter().all(|other| other.index != gpu.index) {
            gpus.push(gpu);
        }
    }
    gpus.sort_by_key(|gpu| gpu.index);
    Inventory { source: InventorySource::Configuration, gpus }
}

/// What NVML lists, by PCI bus order; `None` if there is no driver.
#[cfg(feature = "nvml")]
fn ask_driver() -> Result<Option<Vec<Gpu>>, String> {
    use nvml_wrapper::Nvml;
    use nvml_wrapper::error::NvmlError;

    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound | NvmlError::DriverNotLoaded,
        ) => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let list = || {
        (0..nvml.device_count()?)
            .map(|index| {
                let device = nvml.device_by_index(index)?;
                let (uuid, model) = (device.uuid()?, device.name()?);
                Ok(Gpu { index: GpuIndex(index), uuid: Some(uuid), model: Some(model) })
            })
            .collect::<Result<Vec<Gpu>, NvmlError>>()
    };
    list().map(Some).map_err(|error| error.to_string())
}

#[cfg(not(feature = "nvml"))]
fn ask_driver() -> Result<Option<Vec<Gpu>>, String> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(index: u32, uuid: &str) -> Gpu {
        Gpu { index: GpuIndex(index), uuid: Some(uuid.to_owned()), model: None }
    }

    #[test]
    fn a_list_takes_what_the_driver_knows() {
        let driver = [card(0, "GPU-a"), card(1, "GPU-b")];
        let by_uuid = from_list(&[GpuRef::Uuid("GPU-b".to_owned())], &driver);
        assert_eq!(by_uuid.gpus, [card(1, "GPU-b")]);
        let by_index =
            from_list(&[GpuRef::Index(GpuIndex(1)), GpuRef::Index(GpuIndex(0))], &driver);
        assert_eq!(by_index.gpus, driver);
    }

    #[test]
    fn without_a_driver_a_list_stands_as_it_is() {
        let names = [GpuRef::Uuid("GPU-x".to_owned()), GpuRef::Uuid("GPU-y".to_owned())];
        assert_eq!(from_list(&names, &[]).gpus, [card(0, "GPU-x"), card(1, "GPU-y")]);
        let twice = [GpuRef::Index(GpuIndex(3)), GpuRef::Index(GpuIndex(3))];
        assert_eq!(from_list(&twice, &[]).gpus.len(), 1);
    }
}
