//! Real work: programs as people run them, on one GPU.

use std::fs;

use super::scene::Scene;

/// Half a second of a test picture, made into the same bytes each time.
const TRANSCODE: [&str; 22] = [
    "ffmpeg",
    "-nostdin",
    "-loglevel",
    "error",
    "-y",
    "-f",
    "lavfi",
    "-i",
    "testsrc=duration=1:size=160x120:rate=10",
    "-c:v",
    "mpeg4",
    "-threads",
    "1",
    "-q:v",
    "5",
    "-fflags",
    "+bitexact",
    "-flags:v",
    "+bitexact",
    "-f",
    "avi",
    "FILE",
];

/// Notes when it begins and ends, reads, writes, and ends with a code of its own.
const SCRIPT: &str = r#"
import os, sys, hashlib

def note(text):
    with open("log", "a") as log:
        log.write(text + "\n")

note("python begins")
data = sys.stdin.buffer.read()
digest = data
for _ in range(20000):
    digest = hashlib.sha256(digest).digest()
print(len(data), digest.hex()[:8], os.environ.get("GPULOCK_LEASE_GPUS"))
print("careful", file=sys.stderr)
note("python ends")
sys.exit(5)
"#;

fn transcode(file: &str) -> Vec<&str> {
    TRANSCODE.iter().map(|part| if *part == "FILE" { file } else { part }).collect()
}

#[test]
fn a_transcode_gives_the_same_file_as_without_gpulock() {
    let scene = Scene::with_config("gpus: [0]\n");
    let mut bare = scene.program("ffmpeg");
    bare.args(&transcode("bare.avi")[1..]);
    scene.launch(bare).ended().expect(0);
    let ended = scene.gpulock(&[vec!["run", "--"], transcode("lent.avi")].concat()).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    let (bare, lent) =
        (fs::read(scene.path("bare.avi")).unwrap(), fs::read(scene.path("lent.avi")).unwrap());
    assert!(bare.len() > 10_000 && bare == lent, "{} and {} bytes", bare.len(), lent.len());
}

#[test]
fn a_transcode_and_a_script_take_turns() {
    let scene = Scene::with_config("gpus: [0]\n");
    scene.write("work.py", SCRIPT);
    scene.write("input", "x".repeat(100_000));
    let film = |number: u32| {
        let command = transcode("FILE").join(" ").replace("FILE", &format!("film{number}.avi"));
        let script = format!(
            "echo ffmpeg begins >> log; {command}; code=$?; echo ffmpeg ends >> log; exit $code"
        );
        scene.start_run("film", &[], &script)
    };
    let python = || {
        let mut command = scene.command(&["run", "--task", "python", "--", "python3", "work.py"]);
        command.stdin(fs::File::open(scene.path("input")).unwrap());
        scene.launch(command)
    };
    let started = (film(1), python(), film(2), python(), film(3), python());
    for film in [started.0, started.2, started.4] {
        film.ended().expect(0);
    }
    for python in [started.1, started.3, started.5] {
        let ended = python.ended().expect(5);
        assert!(ended.stdout.starts_with("100000 ") && ended.stdout.ends_with(" 0\n"), "{ended:?}");
        let own: Vec<_> =
            ended.stderr.lines().filter(|line| !line.starts_with("gpulock: waiting")).collect();
        assert_eq!(own, ["careful"], "{ended:?}");
    }
    let log = scene.read("log");
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 12);
    for turn in lines.chunks(2) {
        let name = turn[0].strip_suffix(" begins").unwrap_or_else(|| panic!("{log}"));
        assert_eq!(turn[1], format!("{name} ends"), "{log}");
    }
    let films: Vec<_> =
        (1..=3).map(|n| fs::read(scene.path(&format!("film{n}.avi"))).unwrap()).collect();
    assert!(films.iter().all(|film| film.len() > 10_000 && *film == films[0]));
}
