//! A real Alertmanager: it takes what is sent, passes it on, and knows when it is over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use gpulock_alerts::channels::alertmanager::{Alertmanager, Settings};
use gpulock_alerts::{NotifiedAlert, Reason, Status};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::events::{alert, around, send};
use super::server::{Reply, Server, eventually};

/// It ends tests that would hang, and judges none.
const PATIENCE: Duration = Duration::from_secs(60);

/// Passes everything on to a webhook, at once.
struct Real {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Real {
    async fn start(receiver: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "route": {
                "receiver": "test", "group_by": ["..."],
                "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h",
            },
            "receivers": [{
                "name": "test",
                "webhook_configs": [{"url": receiver.url("/told").as_str(), "send_resolved": true}],
            }],
        });
        let file = folder.path().join("alertmanager.yml");
        fs::write(&file, config.to_string()).unwrap();
        let address = gpulock_testbed::listen().local_addr().unwrap();
        let mut command = real();
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.arg("--cluster.listen-address=");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let mut real = Self { child: command.spawn().unwrap(), address, folder };
        real.until_ready().await;
        real
    }

    async fn until_ready(&mut self) {
        let url = format!("http://{}/-/ready", self.address).parse().unwrap();
        let (poster, begun) = (around().poster, Instant::now());
        loop {
            let answer = poster.get(&url, HeaderMap::new()).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return;
            }
            let has_ended = self.child.try_wait().unwrap().is_some();
            if has_ended || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("Alertmanager does not become ready:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn channel(&self) -> Alertmanager {
        let settings = json!({"urls": [format!("http://{}", self.address)]});
        serde_json::from_value::<Settings>(settings).unwrap().open(&around()).unwrap()
    }

    /// What its own command-line tool says that fires.
    fn active(&self) -> Vec<Value> {
        let url = format!("--alertmanager.url=http://{}", self.address);
        let output = Command::new(tool("amtool"))
            .args([&url, "alert", "query", "--output=json"])
            .env("HOME", self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Alertmanager, which the kernel kills when this test's thread ends, however that comes about.
fn real() -> Command {
    let (mortal, program) = (["setpriv", "--pdeathsig", "KILL"], tool("prometheus-alertmanager"));
    let templates = tools().join("share/prometheus/alertmanager");
    if Path::new("/usr/share/prometheus/alertmanager").is_dir() || !templates.is_dir() {
        let mut command = Command::new(mortal[0]);
        command.args(&mortal[1..]).arg(program);
        return command;
    }
    // That of Debian looks for its templates in /usr/share/prometheus, where only an
    // installed package has them. So it gets a /usr/share of its own, with nothing else in it.
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-ec", PLACED, "sh"]).arg(templates);
    command.args(mortal).arg(program);
    command
}

const PLACED: &str = r#"
    mount -t tmpfs none /usr/share
    mkdir -p /usr/share/prometheus/alertmanager
    cp "$1"/*.tmpl /usr/share/prometheus/alertmanager
    shift
    exec "$@""#;

/// One of Alertmanager's programs, on the path or where the scripts put it.
fn tool(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found =
        env::split_paths(&path).chain([tools().join("bin")]).map(|folder| folder.join(name));
    found.find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("failed to find {name}\n\nhint: `scripts/setup test` puts it into target/tools/bin")
    })
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools")
}

/// What the webhook was told of this alert, by the status of the whole message.
fn told(receiver: &Server, status: &str, alert: &NotifiedAlert) -> Option<Value> {
    let bodies = receiver.received().into_iter().map(|received| received.json());
    let about = bodies.filter(|body| body["status"] == status);
    let mut alerts = about.flat_map(|body| body["alerts"].as_array().cloned().unwrap());
    alerts.find(|one| one["labels"]["gpu"] == alert.labels.value("gpu"))
}

#[tokio::test]
async fn it_passes_on_what_fires_and_what_is_over() {
    let receiver = Server::start(|_| Reply::new(200, "")).await;
    let real = Real::start(&receiver).await;
    let channel = real.channel();
    let (first, second) = (alert(Status::Firing, "P0", "0"), alert(Status::Firing, "P1", "1"));
    send(&channel, vec![first.clone(), second.clone()]).await.unwrap();
    eventually("both fire", || {
        [&first, &second].iter().all(|one| told(&receiver, "firing", one).is_some())
    })
    .await;
    let passed_on = told(&receiver, "firing", &first).unwrap();
    for (name, value) in first.labels.iter() {
        assert_eq!(passed_on["labels"][name], value, "{name}");
    }
    for (name, value) in &first.annotations {
        assert_eq!(passed_on["annotations"][name], **value, "{name}");
    }
    assert_eq!(passed_on["generatorURL"], first.generator_url);
    assert_eq!(real.active().len(), 2);

    // Sent again it is the same alert.
    send(&channel, vec![first.clone()]).await.unwrap();
    assert_eq!(real.active().len(), 2);

    let is_over = alert(Status::Resolved, "P0", "0");
    send(&channel, vec![is_over.clone(), second.clone()]).await.unwrap();
    eventually("one is over", || told(&receiver, "resolved", &is_over).is_some()).await;
    assert!(told(&receiver, "resolved", &second).is_none());
    let active = real.active();
    assert_eq!(active.len(), 1, "{active:?}");
    assert_eq!(active[0]["labels"]["gpu"], "1");
}

#[tokio::test]
async fn what_fires_lives_for_four_intervals() {
    let receiver = Server::start(|_| Reply::new(200, "")).await;
    let real = Real::start(&receiver).await;
    send(&real.channel(), vec![alert(Status::Firing, "P0", "0")]).await.unwrap();
    let active = real.active();
    let ends: jiff::Timestamp = active[0]["endsAt"].as_str().unwrap().parse().unwrap();
    let updated: jiff::Timestamp = active[0]["updatedAt"].as_str().unwrap().parse().unwrap();
    let lives = ends.duration_since(updated).as_secs();
    assert!((180..=241).contains(&lives), "{lives} s, and resend is a minute");
}

#[tokio::test]
async fn it_takes_odd_names_and_its_refusals_are_quoted() {
    let receiver = Server::start(|_| Reply::new(200, "")).await;
    let real = Real::start(&receiver).await;
    let mut odd = alert(Status::Firing, "P0", "0");
    odd.labels.set("task-kind", "ocr \u{5f20}\n\"x\"");
    odd.annotations.insert("9 lives".to_owned(), "yes".to_owned());
    odd.annotations.insert("empty".to_owned(), String::new());
    odd.generator_url.clear();
    send(&real.channel(), vec![odd]).await.unwrap();
    let active = real.active();
    assert_eq!(active[0]["labels"]["task_kind"], "ocr \u{5f20}\n\"x\"");
    assert_eq!(active[0]["annotations"]["_9_lives"], "yes");
    let mut bare = alert(Status::Firing, "P0", "0");
    bare.labels = gpulock::core::alert::Labels::default();
    let failure = send(&real.channel(), vec![bare]).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ClientError);
    assert!(failure.detail.contains("at least one label pair required"), "{failure}");
}
