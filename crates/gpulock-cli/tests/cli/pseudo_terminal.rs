//! A terminal, as the other end of which the test sits: it types, and reads the screen.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::program::{end_of, start, until_or};
use super::scene::Scene;

/// A program on a terminal of its own.
pub(super) struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    program: Child,
}

impl Terminal {
    /// Starts a program as the first of a new session, whose terminal this is.
    pub(super) fn open(scene: &Scene, program: &[&str]) -> Self {
        let here = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&here).unwrap();
        unlockpt(&here).unwrap();
        let name = ptsname(&here, Vec::new()).unwrap();
        let there = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&there, Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 })
            .unwrap();
        let mut command = scene.program("setsid");
        command.args(["--ctty", "--wait"]).args(program);
        let side = || there.try_clone().unwrap();
        command.stdin(side()).stdout(side()).stderr(side());
        let program = start(&mut command);
        let screen = Arc::default();
        let keyboard = File::from(here.try_clone().unwrap());
        std::thread::spawn({
            let screen = Arc::clone(&screen);
            move || watch(here, &screen)
        });
        Self { keyboard, screen, program }
    }

    /// Starts a shell that knows about jobs.
    pub(super) fn shell(scene: &Scene) -> Self {
        let terminal = Self::open(scene, &["bash", "--norc", "--noprofile", "--noediting", "-i"]);
        // Each prompt is told from the text of its own definition.
        terminal.types("PS1=rea'dy> '\n");
        terminal.until_it_shows("ready> ");
        terminal
    }

    pub(super) fn types(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was ever written to the screen.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    pub(super) fn until_it_shows(&self, text: &str) {
        until_or(
            || self.text().contains(text),
            || format!("the screen shows {text:?}; so far it is {:?}", self.text()),
        );
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(super) fn ended(&mut self) -> ExitStatus {
        let screen = Arc::clone(&self.screen);
        end_of(&mut self.program, || {
            format!("{:?}", String::from_utf8_lossy(&screen.lock().unwrap()))
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Already gone, unless the test has failed.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Reads until the last program has closed the other side.
fn watch(from: OwnedFd, screen: &Mutex<Vec<u8>>) {
    let mut from = File::from(from);
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        screen.lock().unwrap().extend_from_slice(&buffer[..count]);
    }
}
