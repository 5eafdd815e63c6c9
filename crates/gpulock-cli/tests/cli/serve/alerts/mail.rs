//! Somebody who gets mail: a small server of SMTP that takes every letter.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Somebody who gets mail.
pub(super) struct Mailbox {
    address: SocketAddr,
    letters: Arc<Mutex<Vec<String>>>,
}

impl Mailbox {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let letters = Arc::<Mutex<Vec<String>>>::default();
        let of_thread = Arc::clone(&letters);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let letters = Arc::clone(&of_thread);
                // Whoever writes may go away at any time.
                thread::spawn(move || drop(converse(stream, &letters)));
            }
        });
        Self { address, letters }
    }

    /// A channel of the configuration that writes to it.
    pub(super) fn channel(&self, name: &str) -> String {
        format!(
            "    {name}: {{email: {{server: \"{}\", tls: none, from: gpulock@example.org, \
             to: [crew@example.org]}}}}\n",
            self.address
        )
    }

    /// All letters so far, with their heads, lines unfolded.
    pub(super) fn letters(&self) -> Vec<String> {
        self.letters.lock().unwrap().clone()
    }
}

/// RFC 5321, as far as somebody needs it who takes everything.
fn converse(stream: TcpStream, letters: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    answers.write_all(b"220 here\r\n")?;
    while let Some(line) = lines.next() {
        let line = line?.to_uppercase();
        if line.starts_with("DATA") {
            answers.write_all(b"354 go on\r\n")?;
            let mut letter = String::new();
            for line in lines.by_ref() {
                match line?.as_str() {
                    "." => break,
                    line => letter += &format!("{}\n", line.strip_prefix('.').unwrap_or(line)),
                }
            }
            // Quoted-printable breaks lines softly.
            letters.lock().unwrap().push(letter.replace("=\n", ""));
        }
        let answer: &[u8] = if line.starts_with("QUIT") { b"221 bye\r\n" } else { b"250 ok\r\n" };
        answers.write_all(answer)?;
    }
    Ok(())
}
