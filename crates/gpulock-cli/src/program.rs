//! From the arguments to the exit code.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::{Cli, Command};
use crate::commands;
use crate::exit::{Code, Failure};
use crate::output;
use crate::run::{self, Child};
use crate::session::Session;

/// Runs the program.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        output::failure(&Failure::new(
            Code::Internal,
            format!("a fault of gpulock itself: {panic}"),
        ));
        std::process::exit(Code::Internal.number().into());
    }));
    // Before anything else, while forking is cheap. A wrong guess costs a process that ends
    // at once.
    let child = std::env::args_os().any(|argument| argument == "run").then(Child::fork);
    let outcome = match Cli::of_process() {
        Ok(cli) => carry_out(&cli, child),
        Err(error) => return misunderstood(&error),
    };
    let code = outcome.unwrap_or_else(|failure| {
        output::failure(&failure);
        failure.code
    });
    ExitCode::from(code.number())
}

fn carry_out(cli: &Cli, child: Option<Result<Child, Failure>>) -> Result<Code, Failure> {
    if let Command::Generate(what) = &cli.command {
        return commands::generate::generate(what);
    }
    let session = Session::load(cli)?;
    if let Command::Config(what) = &cli.command {
        return commands::config::config(what, &session);
    }
    session.tell_warnings();
    if let Command::Serve(what) = &cli.command {
        return commands::serve::serve(what, cli, &session);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Code::Internal, format!("the program cannot be started: {error}"))
    })?;
    runtime.block_on(async {
        match &cli.command {
            Command::Run(what) => {
                let child = child.unwrap_or_else(Child::fork)?;
                run::run(what, child, &session).await
            }
            Command::Status(what) => commands::status::status(what, &session).await,
            Command::Release(what) => commands::release::release(what, &session).await,
            Command::History(what) => commands::history::history(what, &session).await,
            Command::Verify(what) => commands::verify::verify(what, &session).await,
            Command::Alerts(what) => commands::alerts::alerts(what, &session).await,
            Command::Doctor(what) => commands::doctor::doctor(what, &session).await,
            Command::Serve(_) | Command::Config(_) | Command::Generate(_) => {
                unreachable!("done above")
            }
        }
    })
}

/// Help and version are answers; everything else is a usage error, in the form of all other
/// errors.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if is_answer || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed output: there is nobody to tell.
        let _ = error.print();
        return ExitCode::from(if is_answer { Code::Ok } else { Code::Usage }.number());
    }
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    // The other tips are about arguments of gpulock that were meant for the command.
    let mut tips = paragraphs.flat_map(|next| next.trim().split("tip: ")).map(str::trim);
    let tip = tips.find(|tip| tip.starts_with("a similar"));
    let hint = match tip {
        Some(tip) => tip.split_whitespace().collect::<Vec<_>>().join(" "),
        None => "`gpulock COMMAND --help` shows what there is, with examples".to_owned(),
    };
    let failure = Failure::new(Code::Usage, shortened(&message)).hint(shortened(&hint));
    output::failure(&failure);
    ExitCode::from(failure.code.number())
}

/// A message that quotes a very long argument, without its middle.
fn shortened(message: &str) -> String {
    const SIDE: usize = 150;
    let length = message.chars().count();
    if length <= 2 * SIDE + 1 {
        return message.to_owned();
    }
    let head: String = message.chars().take(SIDE).collect();
    let tail: String = message.chars().skip(length - SIDE).collect();
    format!("{head}…{tail}")
}
