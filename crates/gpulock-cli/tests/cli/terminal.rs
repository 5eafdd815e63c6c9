//! `gpulock run` on a terminal: keys, jobs, and the line that is rewritten in place.

use rustix::process::{Pid, Signal, kill_process};

use super::program::{lives, until};
use super::pseudo_terminal::Terminal;
use super::scene::{BLOCKED, GPULOCK, Scene};

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const CTRL_BACKSLASH: &str = "\x1c";

fn state(pid: Pid) -> char {
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('-')
}

#[test]
fn ctrl_c_takes_a_waiter_out_of_the_queue() {
    let scene = Scene::new();
    let _holder = scene.holder("ocr", &[]);
    let mut terminal =
        Terminal::open(&scene, &[GPULOCK, "run", "--task", "asr", "--", "touch", "ran"]);
    scene.until_queued("asr");
    terminal.until_it_shows("place 1 in the queue");
    terminal.types(CTRL_C);
    assert_eq!(terminal.ended().code(), Some(130));
    assert_eq!(scene.pool()["queue"], serde_json::json!([]));
    assert!(!scene.exists("ran"));
}

#[test]
fn ctrl_c_reaches_the_command_of_a_holder() {
    let scene = Scene::new();
    let script =
        "trap 'echo interrupted; exit 5' INT; echo $$ > worker.pid; while :; do sleep 0.01; done";
    let mut terminal = Terminal::open(&scene, &[GPULOCK, "run", "--", "sh", "-c", script]);
    scene.wait_for_pid("worker.pid");
    terminal.types(CTRL_C);
    assert_eq!(terminal.ended().code(), Some(5));
    terminal.until_it_shows("interrupted");
    assert_eq!(scene.pool()["gpus"][0]["state"], "free");
}

#[test]
fn ctrl_c_and_ctrl_backslash_end_a_command_that_does_not_catch_them() {
    for (key, number) in [(CTRL_C, 2), (CTRL_BACKSLASH, 3)] {
        let scene = Scene::new();
        let script = "ulimit -c 0; echo $$ > worker.pid; exec sleep 60";
        let mut terminal = Terminal::open(&scene, &[GPULOCK, "run", "--", "sh", "-c", script]);
        let worker = scene.wait_for_pid("worker.pid");
        until("it sleeps", || {
            std::fs::read_to_string(format!("/proc/{}/comm", worker.as_raw_nonzero()))
                .is_ok_and(|comm| comm == "sleep\n")
        });
        terminal.types(key);
        assert_eq!(terminal.ended().code(), Some(128 + number));
        assert!(!lives(worker));
    }
}

#[test]
fn ctrl_z_stops_the_job_and_fg_goes_on_with_it() {
    let scene = Scene::new();
    let shell = Terminal::shell(&scene);
    scene.write("work.sh", BLOCKED);
    shell.types("gpulock run --task ocr sh work.sh; echo co\"de\" $?\n");
    let worker = scene.wait_for_pid("worker.pid");
    for _ in 0..3 {
        shell.types(CTRL_Z);
        until("the command is stopped", || state(worker) == 'T');
        until("the shell has its terminal back", || shell.text().matches("ready> ").count() > 1);
        assert_eq!(scene.lease()["task"], "ocr");
        shell.types("fg\n");
        until("the command goes on", || state(worker) != 'T');
    }
    scene.write("gate", "\n");
    shell.until_it_shows("done");
}

#[test]
fn a_waiter_can_be_stopped_and_continued() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    let shell = Terminal::shell(&scene);
    shell.types("gpulock run --task asr -- sh -c 'echo asr >> order'\n");
    scene.until_queued("asr");
    shell.until_it_shows("place 1 in the queue");
    shell.types(CTRL_Z);
    shell.until_it_shows("Stopped");
    shell.types("fg\n");
    shell.until_it_shows("ready> fg");
    scene.let_go("ocr");
    holder.ended().expect(0);
    assert_eq!(scene.wait_for_line("order"), "asr");
}

#[test]
fn a_command_that_reads_from_the_terminal_gets_what_is_typed() {
    let scene = Scene::new();
    let mut terminal =
        Terminal::open(&scene, &[GPULOCK, "run", "--", "sh", "-c", "head -1 > typed; exit 4"]);
    terminal.types("hello there\n");
    assert_eq!(scene.wait_for_line("typed"), "hello there");
    assert_eq!(terminal.ended().code(), Some(4));
}

#[test]
fn after_a_command_that_read_from_the_terminal_the_shell_has_it_back() {
    let scene = Scene::new();
    let shell = Terminal::shell(&scene);
    shell.types("gpulock run -- head -1 | tr a-z A-Z\n");
    until("somebody reads", || {
        scene.pool()["leases"].as_array().is_some_and(|leases| !leases.is_empty())
    });
    shell.types("from a pipeline\n");
    shell.until_it_shows("FROM A PIPELINE");
    shell.types("gpulock run -- sh -c 'read a; read b; echo =$b,$a='\n");
    shell.types("one\ntwo\n");
    shell.until_it_shows("=two,one=");
    shell.types("echo piped | gpulock run -- sh -c 'read a; read b </dev/tty; echo =$b,$a='\n");
    shell.types("typed\n");
    shell.until_it_shows("=typed,piped=");
    shell.types("echo still he\"re\"\n");
    shell.until_it_shows("still here");
}

#[test]
fn a_reading_command_is_stopped_by_ctrl_z_and_reads_on_after_fg() {
    let scene = Scene::new();
    let shell = Terminal::shell(&scene);
    shell.types("gpulock run -- sh -c 'echo $$ > worker.pid; read a; echo got $a >> got; read b; echo got $b >> got'\n");
    let worker = scene.wait_for_pid("worker.pid");
    shell.types("first\n");
    assert_eq!(scene.wait_for_line("got"), "got first");
    shell.types(CTRL_Z);
    until("it is stopped", || state(worker) == 'T');
    shell.until_it_shows("Stopped");
    shell.types("fg\n");
    until("it goes on", || state(worker) != 'T');
    shell.types("second\n");
    until("it has read on", || scene.read("got") == "got first\ngot second\n");
}

#[test]
fn ctrl_c_reaches_a_command_that_has_the_terminal() {
    let scene = Scene::new();
    let mut terminal = Terminal::open(
        &scene,
        &[GPULOCK, "run", "--", "sh", "-c", "read a; echo got $a > got; exec cat"],
    );
    terminal.types("first\n");
    scene.wait_for_line("got");
    terminal.types(CTRL_C);
    assert_eq!(terminal.ended().code(), Some(130));
}

#[test]
fn a_command_in_the_background_does_not_take_the_terminal() {
    let scene = Scene::new();
    let shell = Terminal::shell(&scene);
    shell.types("gpulock run -- sh -c 'echo $$ > worker.pid; head -1 > typed' &\n");
    let worker = scene.wait_for_pid("worker.pid");
    until("it is stopped for wanting to read", || state(worker) == 'T');
    shell.types("echo mi\"ne\"\n");
    shell.until_it_shows("mine");
    assert_eq!(scene.read("typed"), "");
    shell.types("fg\n");
    shell.until_it_shows("ready> fg");
    until("it goes on", || state(worker) != 'T');
    shell.types("for the command\n");
    assert_eq!(scene.wait_for_line("typed"), "for the command");
}

#[test]
fn the_waiting_line_is_rewritten_in_place_and_leaves_no_trace() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    let mut terminal =
        Terminal::open(&scene, &[GPULOCK, "run", "--task", "asr", "--", "echo", "started"]);
    // It is refreshed, so that its times run.
    until("the line is there several times", || {
        terminal.text().matches("place 1 in the queue").count() >= 3
    });
    scene.let_go("ocr");
    holder.ended().expect(0);
    assert_eq!(terminal.ended().code(), Some(0));
    terminal.until_it_shows("started");
    let text = terminal.text();
    let (waiting, rest) = text.rsplit_once("\r\u{1b}[K").unwrap();
    assert_eq!(rest, "started\r\n");
    assert!(!waiting.contains('\n'), "{text:?}");
    assert!(waiting.contains("GPU 0 held by ocr (pid "), "{text:?}");
}

#[test]
fn errors_are_coloured_on_a_terminal_unless_no_color_is_set() {
    let mut scene = Scene::new();
    let say = |scene: &Scene| {
        let mut terminal = Terminal::open(scene, &[GPULOCK, "run", "--", "no-such-command"]);
        assert_eq!(terminal.ended().code(), Some(127));
        terminal.until_it_shows("hint: ");
        terminal.text()
    };
    assert!(say(&scene).starts_with("\u{1b}[1;31merror:\u{1b}[0m the command"));
    scene.set("NO_COLOR", "1");
    assert!(say(&scene).starts_with("error: the command"));
    // Empty is as if it were not set, see <https://no-color.org>.
    scene.set("NO_COLOR", "");
    assert!(say(&scene).starts_with("\u{1b}[1;31m"));
    assert!(!scene.gpulock(&["run", "--", "no-such-command"]).stderr.contains('\u{1b}'));
}

#[test]
fn help_keeps_no_color_too() {
    let mut scene = Scene::new();
    scene.set("NO_COLOR", "1");
    let mut terminal = Terminal::open(&scene, &[GPULOCK, "run", "--help"]);
    assert_eq!(terminal.ended().code(), Some(0));
    terminal.until_it_shows("Examples:");
    assert!(!terminal.text().contains('\u{1b}'), "{:?}", terminal.text());
}

#[test]
fn a_closed_terminal_ends_the_command() {
    let scene = Scene::new();
    let script = "trap 'echo hung up > heard; exit 0' HUP; echo $$ > worker.pid; while :; do sleep 0.01; done";
    let shell = Terminal::shell(&scene);
    shell.types(&format!("gpulock run -- sh -c \"{script}\"\n").replace("$$", "\\$\\$"));
    let worker = scene.wait_for_pid("worker.pid");
    let gpulock = Pid::from_raw(scene.lease()["pid"].as_i64().unwrap() as i32).unwrap();
    // What the kernel sends when the window is closed.
    kill_process(gpulock, Signal::HUP).unwrap();
    assert_eq!(scene.wait_for_line("heard"), "hung up");
    until("it is gone", || !lives(worker) && !lives(gpulock));
    assert_eq!(scene.pool()["gpus"][0]["state"], "free");
}
