//! `gpulock generate`: files for other programs.

mod dashboard;
mod rules;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use clap::CommandFactory;

use crate::args::{Cli, Generate};
use crate::exit::{Code, Failure};
use crate::output;
use crate::reference;

/// Prints or writes what was asked for.
pub(crate) fn generate(what: &Generate) -> Result<Code, Failure> {
    match what {
        Generate::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "gpulock", &mut script);
            output::data(String::from_utf8_lossy(&script).trim_end());
        }
        Generate::Openapi => output::data(reference::api().trim_end()),
        Generate::Man { folder } => man(folder).map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("manual pages cannot be written to {}: {error}", folder.display()),
            )
        })?,
        Generate::PrometheusRules => output::data(rules::file().trim_end()),
        Generate::GrafanaDashboard => output::data(&dashboard::file()),
    }
    Ok(Code::Ok)
}

fn man(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}
