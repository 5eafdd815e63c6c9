//! The contract of the configuration, from outside: sources in, values and sentences out.

use super::scene::{Scene, seconds, value};
use gpulock_core::{GpuIndex, GpuRef};

use super::*;

/// The example of the requirements, as it stands there.
const CONTRACT: &str = "\
gpu_lock:
  poll_interval: 2            # first fallback poll
  max_wait_time: 1800
  lock_timeout: 3600          # leases without heartbeats
  exponential_backoff: true
  max_poll_interval: 10
gpu_lock_monitor:
  enabled: true
  auto_recovery: true
  monitor_interval: 30
  timeout_levels: {warning: 1800, soft_timeout: 3600, hard_timeout: 7200}
  heartbeat: {interval: 60, timeout: 300}   # absent: 10 and 30
  cleanup: {max_retry: 3, retry_delay: 60}
  health_thresholds: {min_success_rate: 0.8, max_timeout_rate: 0.2, max_lock_age: 3600, recent_window_size: 20}
";

#[test]
fn nothing_at_all_gives_the_defaults_and_no_findings() {
    let loaded = Scene::empty().loaded();
    assert_eq!(loaded.config, Config::default());
    assert_eq!((loaded.file, loaded.warnings), (None, Vec::new()));
    assert_eq!(loaded.config.contradictions(), Vec::new());
    assert!(loaded.config.entries().iter().all(|entry| entry.origin == Origin::Default));
    for (path, default) in [
        ("store", "not set"),
        ("pool", "default"),
        ("gpus", "auto"),
        ("critical_failure_log", "/var/log/gpulock/critical_failures.jsonl"),
        ("gpu_lock.use_event_driven", "true"),
        ("gpu_lock.fallback_timeout", "not set"),
        ("gpu_lock.store_patience", "10s"),
        ("gpu_lock.on_store_error", "fail"),
        ("gpu_lock.stop_grace", "5s"),
        ("gpu_lock.claim_time", "10s"),
        ("gpu_lock_monitor.heartbeat.interval", "10s"),
        ("gpu_lock_monitor.heartbeat.timeout", "30s"),
        ("server.listen", "127.0.0.1:8788"),
        ("server.job_mapping_dir", "not set"),
    ] {
        assert_eq!(value(&loaded.config, path), default, "{path}");
    }
}

#[test]
fn the_contracts_file_says_what_the_contract_says() {
    let scene = Scene::with(CONTRACT);
    let config = scene.config();
    let mut expected = Config::default();
    expected.gpu_lock_monitor.heartbeat =
        Heartbeat { interval: seconds(60), timeout: seconds(300) };
    expected.origins.clone_from(&config.origins);
    assert_eq!(config, expected, "all other values are the defaults");
    assert_eq!(config.origin("gpu_lock.max_wait_time"), scene.line(3));
    assert_eq!(config.origin("gpu_lock_monitor.heartbeat.interval"), scene.line(12));
    assert_eq!(config.origin("pool"), Origin::Default);

    let findings = config.contradictions();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].severity, &findings[0].place), (Severity::Warning, &scene.line(4)));
    assert!(findings[0].message.contains("gpu_lock.lock_timeout"), "{findings:?}");
    assert!(findings[0].message.contains("config.yml:11"), "{findings:?}");
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let path = "gpu_lock.poll_interval";
    let scene = Scene::with("gpu_lock: {poll_interval: 3}");
    assert_eq!(scene.config().gpu_lock.poll_interval, seconds(3));
    assert_eq!(scene.config().origin(path), scene.line(1));

    let variable = "GPULOCK_GPU_LOCK__POLL_INTERVAL";
    let scene = scene.env([(variable, "4s")]);
    assert_eq!(scene.config().gpu_lock.poll_interval, seconds(4));
    assert_eq!(scene.config().origin(path), Origin::Environment { variable: variable.to_owned() });

    let scene = scene.flags([(path, "5")]);
    assert_eq!(scene.config().gpu_lock.poll_interval, seconds(5));
    assert_eq!(scene.config().origin(path), Origin::Flag);
}

#[test]
fn lists_stand_with_commas_in_the_environment_and_as_lists_in_the_file() {
    let file = Scene::with("gpus: [0, GPU-1a]\nserver:\n  allowed_hosts:\n    - a\n    - b:80\n");
    let environment = Scene::empty()
        .env([("GPULOCK_GPUS", "0,GPU-1a"), ("GPULOCK_SERVER__ALLOWED_HOSTS", "a, b:80")]);
    for config in [file.config(), environment.config()] {
        let gpus = Gpus::These(vec![GpuRef::Index(GpuIndex(0)), GpuRef::Uuid("GPU-1a".to_owned())]);
        assert_eq!(
            (config.gpus, config.server.allowed_hosts),
            (gpus, vec!["a".to_owned(), "b:80".to_owned()])
        );
    }
    assert_eq!(file.config().origin("server.allowed_hosts"), file.line(3));
    assert_eq!(Scene::with("gpus: 1").config().gpus, Gpus::These(vec![GpuRef::Index(GpuIndex(1))]));
}

#[test]
fn a_folder_that_need_not_be_there_is_a_path_or_nothing() {
    let folder = |file| Scene::with(file).config().server.job_mapping_dir;
    assert_eq!(folder("server: {job_mapping_dir: /run/jobs}"), Some(PathBuf::from("/run/jobs")));
    assert_eq!(folder("server: {job_mapping_dir: }"), None);
    let error = Scene::with("server: {job_mapping_dir: [a]}").error();
    assert!(error.to_string().contains("server.job_mapping_dir"), "{error}");
}

#[test]
fn an_unknown_flag_is_an_error() {
    let scene = Scene::empty().flags([("gpu_lock.poll", "1")]);
    assert!(matches!(scene.error(), ConfigError::UnknownKey { place: Origin::Flag, .. }));
}

#[test]
fn references_are_replaced_before_values_are_typed() {
    let scene = Scene::with(
        "pool: ${POOL}\ngpu_lock:\n  poll_interval: ${POLL:4}\n  stop_grace: '${GRACE:7s}'\n\
         server: {tokens: ['operate:${SECRET}', 'read:$${x}']}\n",
    )
    .env([("POOL", "lab"), ("SECRET", "s3cret")]);
    let config = scene.config();
    assert_eq!((config.pool.as_str(), config.gpu_lock.poll_interval), ("lab", seconds(4)));
    assert_eq!(config.gpu_lock.stop_grace, seconds(7));
    let secrets: Vec<_> = config
        .server
        .tokens
        .iter()
        .map(|token| match &token.secret {
            TokenSecret::Here(secret) => secret.reveal(),
            TokenSecret::File(_) => "file",
        })
        .collect();
    assert_eq!(secrets, ["s3cret", "${x}"]);
}

#[test]
fn an_unset_variable_is_an_error_only_in_sections_of_ours() {
    let scene = Scene::with(
        "other: ${NONE}\nalerts: {url: '${NONE}'}\nredis: {host: '${NONE}'}\nstore: 'memory:'",
    );
    assert!(scene.config().store.is_some());
    let scene = Scene::with("other: 1\nserver:\n  listen: ${ADDRESS}\n");
    assert_eq!(
        scene.said(),
        "understand config.yml:3: `server.listen` uses the environment variable ADDRESS, which is not set"
    );
    assert_eq!(scene.error().hint().unwrap(), "set it, or write a default as ${ADDRESS:DEFAULT}");
}

#[test]
fn the_unexamined_section_is_kept_and_never_shown() {
    let config = Scene::with("alerts: {mail: {password: s3cret}, odd: '${NONE}'}").config();
    assert!(config.alerts.is_some());
    assert!(!format!("{config:?} {:?}", config.entries()).contains("s3cret"));
}

#[test]
fn secrets_are_never_shown() {
    let scene = Scene::with("store: redis://:s3cret@h/0\nserver: {tokens: ['operate:s3cret']}\n")
        .flags([("pool", "s3cret")]);
    let loaded = scene.loaded();
    let shown = format!("{:?}", scene.sources);
    assert!(!shown.contains("s3cret"), "{shown}");
    let mut config = loaded.config;
    config.pool.clear();
    assert!(!format!("{config:?}").contains("s3cret"));
    assert_eq!(value(&config, "store"), "redis://:***@h/0");
    assert_eq!(value(&config, "server.tokens"), "operate:***");
    for file in [
        "server: {tokens: [s3cret]}",
        "server: {tokens: [operate: s3cret]}",
        "server: {tokens: {operate: s3cret}}",
        "store: s3cret",
        "store: [s3cret]",
    ] {
        let error = Scene::with(file).error();
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("s3cret"), "{error:?}");
    }
}
