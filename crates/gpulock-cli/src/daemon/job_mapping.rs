//! The folder that tells dcgm-exporter who holds which GPU (`DCGM_HPC_JOB_MAPPING_DIR`): one
//! file for each GPU that is held, named by its index, with the task in its only line. The
//! exporter then puts the task on everything that it measures there, as the label `hpc_job`.
//!
//! Other programs may keep files in the same folder. Only files are touched that are named by the
//! index of a GPU which this process was told about.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gpulock::core::GpuIndex;

/// The exporter may run as another user.
const READABLE_BY_ALL: u32 = 0o644;
/// What it needs to look into the folder.
const OPEN_TO_ALL: u32 = 0o755;
/// The exporter makes a label of it.
const LONGEST_NAME: usize = 128;

/// The folder, and what stands in it as far as this process knows.
#[derive(Debug)]
pub(crate) struct JobMapping {
    folder: PathBuf,
    /// Of every GPU that was ever named: the line in its file, `None` if there is no file.
    known: BTreeMap<GpuIndex, Option<String>>,
}

impl JobMapping {
    /// Nothing is read or written yet.
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder, known: BTreeMap::new() }
    }

    /// Brings the files to what holds now: each GPU with the task of its holder, `None` if it is
    /// free. A GPU that was named before and is not named now counts as free. What has not
    /// changed since the last call is not written again.
    ///
    /// # Errors
    ///
    /// The first file that could not be written or removed. All others are up to date, and this
    /// one is tried again with the next call.
    pub(crate) fn update(&mut self, gpus: &[(GpuIndex, Option<&str>)]) -> io::Result<()> {
        let mut wanted: BTreeMap<GpuIndex, Option<String>> =
            self.known.keys().map(|gpu| (*gpu, None)).collect();
        wanted.extend(gpus.iter().map(|(gpu, task)| (*gpu, task.map(sanitised))));
        let mut outcome = Ok(());
        for (gpu, line) in wanted {
            if self.known.get(&gpu) == Some(&line) {
                continue;
            }
            match self.put(gpu, line.as_deref()) {
                Ok(()) => {
                    self.known.insert(gpu, line);
                }
                // Nobody knows what stands there now.
                Err(error) => {
                    self.known.remove(&gpu);
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    /// Removes the files of all GPUs that were ever named: nobody keeps them current any more.
    ///
    /// # Errors
    ///
    /// The first file that could not be removed.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.update(&[])
    }

    fn put(&self, gpu: GpuIndex, line: Option<&str>) -> io::Result<()> {
        let path = self.folder.join(gpu.to_string());
        let outcome = match line {
            Some(line) => self.replace(&path, line),
            None => remove(&path),
        };
        outcome.map_err(|error| {
            io::Error::new(error.kind(), format!("{} cannot be kept: {error}", path.display()))
        })
    }

    /// The exporter sees the old line or the new one, and never a half of it. A link in the way
    /// is replaced; what it leads to stays as it is.
    fn replace(&self, path: &Path, line: &str) -> io::Result<()> {
        // Below /run nothing outlives a boot.
        DirBuilder::new().recursive(true).mode(OPEN_TO_ALL).create(&self.folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The exporter passes over names that are no numbers.
        let draft = self.folder.join(format!(".{name}.gpulock"));
        // Left by a process that was killed while it wrote.
        remove(&draft)?;
        let written = write_new(&draft, line).and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            // The error that counts is the first one.
            let _ = remove(&draft);
        }
        written
    }
}

fn write_new(path: &Path, line: &str) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(READABLE_BY_ALL).open(path)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(READABLE_BY_ALL))?;
    writeln!(file, "{line}")
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// One line without signs that end a label of Prometheus or a line of the file.
fn sanitised(task: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || " -_.,:;/@+#=()[]".contains(c);
    let name: String = task.trim().chars().take(LONGEST_NAME).collect();
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

#[cfg(test)]
mod tests;
