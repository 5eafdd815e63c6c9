//! Finding the command before waiting for a GPU.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::exit::{Code, Failure};

/// The file that the shell would run for this name.
pub(super) fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    let shown = name.to_string_lossy();
    let is_path = name.as_bytes().contains(&b'/');
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let candidates: Vec<PathBuf> = match is_path {
        true => vec![PathBuf::from(name)],
        false => std::env::split_paths(&folders).map(|folder| folder.join(name)).collect(),
    };
    if let Some(found) = candidates.iter().find(|path| is_executable(path)) {
        return Ok(found.clone());
    }
    match candidates.iter().find(|path| path.exists()) {
        Some(path) if path.is_dir() => Err(Failure::new(
            Code::NotExecutable,
            format!("the command {} is a folder", path.display()),
        )
        .hint("name a program in it")),
        Some(path) => Err(Failure::new(
            Code::NotExecutable,
            format!("the command {} cannot be executed", path.display()),
        )
        .hint(format!("`chmod +x {}`, or name its interpreter first", path.display()))),
        None => Err(Failure::new(Code::NotFound, format!("the command {shown} was not found"))
            .hint("write its path, or put its folder on PATH")),
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}
