//! The files under `deploy`: what they call exists, and what they name is there. Neither systemd
//! nor a container engine is needed; they are read as text.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use clap::Parser;
use gpulock_cli::args::Cli;
use saphyr_parser::{Event, Parser as Yaml};
use serde_json::{Map, Value};

use super::reference::{gpulock_words, read, root};
use super::scene::Scene;

/// What systemd 252 knows in each section, as far as a service such as this one could want it.
const DIRECTIVES: [(&str, &str); 3] = [
    (
        "Unit",
        "After Before Conflicts Description Documentation PartOf Requires StartLimitBurst \
         StartLimitIntervalSec Wants",
    ),
    (
        "Service",
        "AmbientCapabilities CapabilityBoundingSet ConfigurationDirectory DeviceAllow \
         DevicePolicy Environment EnvironmentFile ExecReload ExecStart ExecStartPre Group IPAddressAllow IPAddressDeny \
         KeyringMode KillMode LimitNOFILE LoadCredential LockPersonality LogsDirectory LogsDirectoryMode \
         MemoryDenyWriteExecute MemoryMax NoNewPrivileges NotifyAccess PrivateTmp \
         ProtectClock ProtectControlGroups ProtectHome ProtectHostname ProtectKernelLogs \
         ProtectKernelModules ProtectKernelTunables ProtectSystem ReadWritePaths RemoveIPC \
         Restart RestartSec RestrictAddressFamilies RestrictNamespaces RestrictRealtime \
         RestrictSUIDSGID RuntimeDirectory StateDirectory StateDirectoryMode SupplementaryGroups SystemCallArchitectures \
         SystemCallErrorNumber SystemCallFilter TasksMax TimeoutStopSec Type UMask User \
         WatchdogSec WorkingDirectory",
    ),
    ("Install", "Alias Also WantedBy"),
];

/// What the service must not be without.
const HARDENING: [(&str, &str); 20] = [
    ("Type", "notify"),
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateTmp", "yes"),
    ("DevicePolicy", "closed"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
];

/// What would keep the monitor from its work: seeing processes, and waking waiters.
const HARMFUL: [&str; 4] = ["ProtectProc", "PrivateNetwork", "PrivateUsers", "DynamicUser"];

/// The settings of the unit: section, name, value.
fn unit() -> Vec<(String, String, String)> {
    let text = read("deploy/systemd/gpulock.service");
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => name.clone_into(&mut section),
            None => {
                let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
                settings.push((section.clone(), name.to_owned(), value.to_owned()));
            }
        }
    }
    settings
}

#[test]
fn the_unit_says_what_systemd_knows_and_is_closed_as_far_as_it_can_be() {
    let unit = unit();
    for (section, name, _) in &unit {
        let known = DIRECTIVES.iter().find(|(known, _)| known == section);
        let names = known.unwrap_or_else(|| panic!("there is no section {section}")).1;
        assert!(names.split_whitespace().any(|known| known == name), "[{section}] {name}");
    }
    let has = |name: &str, value: &str| unit.iter().any(|(_, n, v)| (&**n, &**v) == (name, value));
    for (name, value) in HARDENING {
        assert!(has(name, value), "{name}={value} is missing");
    }
    for name in HARMFUL {
        assert!(unit.iter().all(|(_, known, _)| known != name), "{name}");
    }
    let value = |name: &str| unit.iter().find(|(_, n, _)| n == name).map(|(_, _, v)| v.as_str());
    assert!(value("User").is_some_and(|user| user != "root"));
    assert_eq!(value("ExecReload"), Some("/bin/kill -HUP $MAINPID"));
    assert_eq!(value("StateDirectory"), Some("gpulock"), "the shared store is /var/lib/gpulock");
}

#[test]
fn the_watchdog_of_the_unit_outlasts_a_store_that_does_not_answer() {
    let unit = unit();
    let watchdog = unit.iter().find(|(_, name, _)| name == "WatchdogSec").unwrap();
    let watchdog = gpulock::config::span(&watchdog.2).unwrap();
    let patience = gpulock::config::Config::default().gpu_lock.store_patience;
    assert!(watchdog >= patience * 6, "{watchdog:?}");
}

#[test]
fn every_call_of_gpulock_is_understood() {
    let unit = unit();
    let start = unit.iter().find(|(_, name, _)| name == "ExecStart").unwrap().2.clone();
    let mut calls = vec![words(start.trim_start_matches("/usr/local/bin/"))];
    let image = dockerfile();
    let exec = |name: &str| list(&image.iter().rfind(|(known, _)| known == name).unwrap().1);
    assert_eq!(exec("ENTRYPOINT"), ["gpulock"]);
    calls.push([exec("ENTRYPOINT"), exec("CMD")].concat());
    let compose = yaml("deploy/compose.yml");
    let command = strings(&compose["services"]["gpulock"]["command"]);
    calls.push([exec("ENTRYPOINT"), command].concat());
    for file in ["Dockerfile", "compose.yml", "config.example.yml", "systemd/gpulock.service"] {
        let text = read(&format!("deploy/{file}"));
        let shown = text.lines().filter_map(|line| line.trim_start().strip_prefix("#   "));
        calls.extend(shown.filter_map(gpulock_words));
    }
    assert!(calls.len() >= 4, "{calls:?}");
    for call in calls {
        if let Err(error) = Cli::try_parse_from(&call) {
            panic!("{call:?}: {error}");
        }
    }
}

#[test]
fn what_the_image_copies_is_there_and_is_not_ignored() {
    let image = dockerfile();
    let stages: Vec<_> = values(&image, "FROM")
        .filter_map(|from| Some(from.split_once(" AS ")?.1.to_owned()))
        .collect();
    let ignored = read("deploy/Dockerfile.dockerignore");
    let lets_through: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut copied = 0;
    for copy in values(&image, "COPY") {
        let mut words = words(copy);
        words.pop();
        if let Some(stage) = words[0].strip_prefix("--from=") {
            assert!(stages.iter().any(|known| known == stage), "there is no stage {stage}");
            continue;
        }
        for source in words {
            assert!(root().join(&source).exists(), "{source} is not there");
            let is_let = |rule: &&str| match rule.strip_suffix('*') {
                Some(start) => source.starts_with(start),
                None => source == **rule,
            };
            assert!(lets_through.iter().any(is_let), "{source} is ignored");
            copied += 1;
        }
    }
    assert!(copied >= 5, "the file is no longer understood");
}

#[test]
fn the_image_is_built_with_a_compiler_that_is_new_enough_and_does_not_run_as_root() {
    let image = dockerfile();
    let manifest = read("Cargo.toml");
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    let first = values(&image, "FROM").next().unwrap();
    assert!(first.starts_with(&format!("rust:{}-", wanted.trim_matches('"'))), "{first}");
    let user = values(&image, "USER").last().unwrap();
    assert_eq!(user, "gpulock");
    let build = values(&image, "RUN").next().unwrap();
    assert_eq!(build, "cargo build --release --locked --package gpulock-cli");
    let check = values(&image, "HEALTHCHECK").next().unwrap();
    assert!(check.ends_with("CMD [\"gpulock-healthcheck\"]"), "{check}");
}

#[test]
fn the_composition_is_whole() {
    let compose = yaml("deploy/compose.yml");
    let (redis, gpulock) = (&compose["services"]["redis"], &compose["services"]["gpulock"]);
    let options = strings(&redis["command"]).join(" ");
    for option in ["--appendonly yes", "--maxmemory-policy noeviction", "--requirepass ${"] {
        assert!(options.contains(option), "{options}");
    }
    assert!(redis["ports"].is_null(), "only gpulock may reach Redis");
    let build = &gpulock["build"];
    let (context, file) = (&build["context"], &build["dockerfile"]);
    let folder = root().join("deploy").join(context.as_str().unwrap());
    assert!(folder.join(file.as_str().unwrap()).is_file());
    for (kind, used) in [("networks", redis), ("networks", gpulock), ("secrets", gpulock)] {
        for name in strings(&used[kind]) {
            assert!(!compose[kind][&name].is_null(), "{kind}: {name} is defined nowhere");
        }
    }
    let tokens = gpulock["environment"]["GPULOCK_SERVER__TOKENS"].as_str().unwrap();
    for secret in strings(&gpulock["secrets"]) {
        assert!(tokens.contains(&format!("@/run/secrets/{secret}")), "{tokens}");
    }
    assert_eq!(gpulock["depends_on"]["redis"]["condition"], "service_healthy");
    assert_eq!(strings(&gpulock["cap_drop"]), ["ALL"]);
    for port in strings(&gpulock["ports"]) {
        assert!(port.starts_with("127.0.0.1:"), "{port} is open to everybody");
    }
}

#[test]
fn what_the_composition_says_by_variables_is_understood() {
    let compose = yaml("deploy/compose.yml");
    let mut scene = Scene::new();
    scene.unset("GPULOCK_CRITICAL_FAILURE_LOG");
    let mut said = 0;
    for (name, value) in compose["services"]["gpulock"]["environment"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        let value = value.replace("${REDIS_PASSWORD:?}", "secret");
        scene.set(name, &value.replace("${GPULOCK_HOST:-gpulock.internal}", "gpulock.internal"));
        said += 1;
    }
    let shown = scene.gpulock(&["config", "show"]).expect(0).stdout;
    let known = shown.lines().filter(|line| line.contains("environment variable")).count();
    assert_eq!(known, said, "{shown}");
    assert!(shown.contains("redis://:***@redis:6379/0"), "{shown}");
}

#[test]
fn the_example_of_a_configuration_is_good_and_says_what_is_in_force_without_it() {
    let mut scene = Scene::new();
    scene.unset("GPULOCK_STORE");
    scene.write("example.yml", read("deploy/config.example.yml"));
    let check = scene.gpulock(&["--config", "example.yml", "config", "check"]).expect(0);
    assert!(check.stdout.ends_with("example.yml: good, no warnings to think about\n"), "{check:?}");
    let shown = |arguments: &[&str]| {
        let ended = scene.gpulock(arguments).expect(0);
        let shown: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
        let values = shown.into_iter().map(|entry| (entry["key"].clone(), entry["value"].clone()));
        values.collect::<Vec<_>>()
    };
    let defaults = shown(&["config", "show", "--json"]);
    let example = shown(&["--config", "example.yml", "config", "show", "--json"]);
    let changed: Vec<_> =
        example.iter().filter(|entry| !defaults.contains(entry)).map(|(key, _)| key).collect();
    assert_eq!(changed, ["gpu_lock.lock_timeout"], "the default ends before hard_timeout");
}

#[test]
fn the_commented_lines_of_the_example_are_good_too() {
    let scene = Scene::new();
    let example = read("deploy/config.example.yml");
    let with = |start: &str| {
        let open = |line: &str| match line.trim_start().strip_prefix("# ") {
            Some(rest) if rest.starts_with(start) => line.replacen("# ", "", 1),
            _ => line.to_owned(),
        };
        let text: String = example.lines().map(|line| open(line) + "\n").collect();
        assert_ne!(text, example, "{start}");
        scene.write("example.yml", text.replace("${REDIS_PASSWORD}", "secret"));
        scene.gpulock(&["--config", "example.yml", "config", "check"]).expect(0);
    };
    ["store:", "tokens:", "allowed_hosts:"].into_iter().for_each(with);
}

#[test]
fn the_health_check_hears_what_a_server_says() {
    let healthy = |answer: &'static str| {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let answering = std::thread::spawn(move || {
            let mut caller = server.accept().unwrap().0;
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                caller.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            caller.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        let scene = Scene::new();
        let mut script = scene.program("bash");
        script.arg(root().join("deploy/healthcheck")).args(["127.0.0.1", &port]);
        let ended = scene.launch(script).ended();
        let asked = answering.join().unwrap();
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("\r\nHost: 127.0.0.1:{port}\r\n")), "{asked}");
        ended.code() == 0
    };
    assert!(healthy("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(!healthy("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"));
    assert!(!healthy(""));
    let scene = Scene::new();
    let mut script = scene.program("bash");
    script.arg(root().join("deploy/healthcheck")).args(["127.0.0.1", "1"]);
    assert_ne!(scene.launch(script).ended().code(), 0);
}

/// The instructions of the Dockerfile with what follows them, continued lines as one.
fn dockerfile() -> Vec<(String, String)> {
    let text = read("deploy/Dockerfile");
    let kept: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let whole = kept.replace("\\\n", " ");
    let lines = whole.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, rest)| (name.to_owned(), words(rest).join(" "))).collect()
}

fn values<'a>(image: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    image.iter().filter(move |(known, _)| known == name).map(|(_, rest)| rest.as_str())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The texts of a list in JSON.
fn list(json: &str) -> Vec<String> {
    strings(&serde_json::from_str(json).unwrap())
}

#[track_caller]
fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    list.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// A YAML file; every scalar is a text.
fn yaml(path: &str) -> Value {
    let text = read(path);
    let mut open: Vec<(bool, Vec<Value>)> = vec![(false, Vec::new())];
    for event in Yaml::new_from_str(&text) {
        let done = match event.unwrap_or_else(|error| panic!("{path}: {error}")).0 {
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceStart(..) => {
                open.push((false, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((true, Vec::new()));
                continue;
            }
            Event::SequenceEnd => Value::Array(open.pop().unwrap().1),
            Event::MappingEnd => Value::Object(pairs(open.pop().unwrap().1)),
            Event::Alias(_) => panic!("{path}: an alias"),
            _ => continue,
        };
        open.last_mut().unwrap().1.push(done);
    }
    open.pop().unwrap().1.pop().unwrap_or_else(|| panic!("{path} is empty"))
}

fn pairs(items: Vec<Value>) -> Map<String, Value> {
    let mut items = items.into_iter();
    let mut pairs = Map::new();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        let before = pairs.insert(key.as_str().unwrap().to_owned(), value);
        assert!(before.is_none(), "{key} is there twice");
    }
    pairs
}
