//! Slack, DingTalk, WeCom, Feishu: each against a server that checks and answers as the real one.

mod dingtalk;
mod feishu;
mod nonsense;
mod slack;
mod wecom;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Labels, Urgency};
use gpulock_alerts::channels::Around;
use gpulock_alerts::http::Poster;
use gpulock_alerts::{Channel, Failure, Message, Notification, NotifiedAlert, Status, Text};
use reqwest::Url;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

/// Far more than anything needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Clone, Debug)]
struct Asked {
    /// `/robot/send?access_token=…`, nothing decoded.
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What the server does about a request.
enum Reply {
    /// It answers.
    Http { status: u16, header: Option<(&'static str, String)>, body: String },
    /// It announces more than it sends, and hangs up.
    HangUp(&'static str),
    /// It says nothing, and keeps the connection.
    Silence,
}

/// A server of HTTP on this machine.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Asked {
    /// The query, decoded once.
    fn query(&self, name: &str) -> Option<String> {
        let url = Url::parse(&format!("http://localhost{}", self.target)).unwrap();
        let mut pairs = url.query_pairs().filter(|(key, _)| key == name);
        let value = pairs.next().map(|(_, value)| value.into_owned());
        assert!(pairs.next().is_none(), "{name} twice in {}", self.target);
        value
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Reply {
    fn ok(body: impl ToString) -> Self {
        Self::status(200, body)
    }

    fn status(status: u16, body: impl ToString) -> Self {
        Self::Http { status, header: None, body: body.to_string() }
    }

    fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Http { status, body, .. } => {
                Self::Http { status, header: Some((name, value.to_owned())), body }
            }
            other => other,
        }
    }
}

impl Server {
    async fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (reply, asked) = (Arc::new(reply), Arc::new(Mutex::new(Vec::new())));
        let all = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (reply, all) = (Arc::clone(&reply), Arc::clone(&all));
                connections.spawn(async move {
                    // The client may go away at any time; that is its right.
                    let _ = serve(stream, &*reply, &all).await;
                });
            }
        });
        Self { address, asked, task }
    }

    /// An address on it.
    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// All requests so far.
    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The body of the latest one.
    fn json(&self) -> Value {
        self.asked().last().unwrap().json()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request, one answer, and the connection is closed.
async fn serve(
    stream: TcpStream,
    reply: &(dyn Fn(&Asked) -> Reply + Send + Sync),
    all: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut words = line.split(' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default().to_owned());
    let is_post = method == Some("POST");
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let asked = Asked { target, headers, body };
    let reply = if is_post { reply(&asked) } else { Reply::status(405, "POST only") };
    all.lock().unwrap().push(asked);
    match reply {
        Reply::Http { status, header, body } => {
            let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
            if let Some((name, value)) = header {
                head = format!("{head}{name}: {value}\r\n");
            }
            let head = format!("{head}content-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
        }
        Reply::HangUp(body) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n").await?;
            stream.write_all(body.as_bytes()).await?;
        }
        Reply::Silence => std::future::pending().await,
    }
    stream.flush().await?;
    stream.get_mut().shutdown().await
}

/// What a channel needs to open.
fn around(timeout: Duration) -> Around {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Around { name: "ops".to_owned(), poster: Poster::new(timeout, true).unwrap() }
}

/// Opens a channel, or says why not.
macro_rules! opened {
    ($kind:ident, $settings:tt) => {
        super::opened!($kind, $settings, super::PATIENCE)
    };
    ($kind:ident, $settings:tt, $timeout:expr) => {
        serde_json::from_value::<gpulock_alerts::channels::$kind::Settings>(serde_json::json!(
            $settings
        ))
        .map_err(|error| error.to_string())
        .and_then(|settings| settings.open(&super::around($timeout)))
    };
}
use opened;

/// An alert of a rule about GPU 0.
fn alert(urgency: Urgency, status: Status) -> NotifiedAlert {
    let labels = [(Labels::RULE, "GPU_LOCK_HARD_TIMEOUT"), ("gpu", "0"), ("pool", "default")];
    let labels = Labels::from_iter(labels).with(Labels::SEVERITY, urgency.as_str());
    let starts_at = Time::from_micros(1_795_255_200_000_000);
    NotifiedAlert {
        status,
        annotations: BTreeMap::new(),
        starts_at,
        ends_at: (status == Status::Resolved).then_some(starts_at),
        generator_url: String::new(),
        fingerprint: labels.fingerprint(),
        labels,
        count: 1,
    }
}

/// Sends a message about one alert.
async fn send(
    channel: &dyn Channel,
    (urgency, status): (Urgency, Status),
    (title, body): (&str, &str),
) -> Result<(), Failure> {
    let alert = alert(urgency, status);
    let notification = Notification {
        id: "1".to_owned(),
        version: "4",
        group_key: "{}:{}".to_owned(),
        truncated_alerts: 0,
        status,
        receiver: "ops".to_owned(),
        group_labels: Labels::default(),
        common_labels: alert.labels.clone(),
        common_annotations: BTreeMap::new(),
        external_url: String::new(),
        reason: "first".to_owned(),
        alerts: vec![alert],
        count: 1,
    };
    let text = Text { title: title.to_owned(), body: body.to_owned() };
    channel.send(&Message { notification: &notification, text: &text }).await
}

/// An urgent alert that fires.
const FIRING: (Urgency, Status) = (Urgency::P1, Status::Firing);
/// What it says.
const TEXT: (&str, &str) = ("[P1] hard timeout on GPU 0", "Task **ocr** holds GPU 0\n- host gpu1");
