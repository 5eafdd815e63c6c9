//! Bearer tokens: where they come from, and whose one is.
//!
//! Only their SHA-256 sums are kept. What a caller shows is hashed and compared with all of
//! them in constant time, so neither the time nor a dump of memory tells a secret.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gpulock::config::{Role, Server, ServerToken, TokenSecret};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::audit::CallerName;
use crate::exit::{Code, Failure};

/// A secret below this can be guessed.
const SHORTEST: usize = 16;

/// No token file is larger.
const LARGEST_FILE: u64 = 4096;

/// The tokens of the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    known: Vec<Token>,
}

#[derive(Clone, Debug)]
struct Token {
    role: Role,
    sum: [u8; 32],
}

impl Tokens {
    /// Reads the configured tokens and their files. Beside them comes what their owner should
    /// know; no message has a secret in it.
    ///
    /// # Errors
    /// A file that cannot be read or has no token in it.
    pub(crate) fn load(configured: &[ServerToken]) -> Result<(Self, Vec<String>), Failure> {
        let (mut known, mut warnings) = (Vec::new(), Vec::new());
        for (index, ServerToken { role, secret }) in configured.iter().enumerate() {
            let place = index + 1;
            let secret = match secret {
                TokenSecret::Here(secret) => secret.reveal().to_owned(),
                TokenSecret::File(path) => {
                    let (secret, warning) = read(path)?;
                    warnings.extend(warning);
                    secret
                }
            };
            if secret.len() < SHORTEST {
                warnings.push(format!(
                    "token {place} of server.tokens is shorter than {SHORTEST} characters\n\
                     hint: make one that cannot be guessed: openssl rand -hex 32"
                ));
            }
            known.push(Token { role: *role, sum: Sha256::digest(secret).into() });
        }
        Ok((Self { known }, warnings))
    }

    /// Whether anybody may do anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whose secret it is. Takes the same time for every secret of one length.
    pub(crate) fn bearer(&self, secret: &str) -> Option<(Role, CallerName)> {
        let sum: [u8; 32] = Sha256::digest(secret).into();
        let mut place = 0_u64;
        for (token, number) in self.known.iter().zip(1_u64..) {
            let is_it = token.sum.ct_eq(&sum);
            place.conditional_assign(&number, is_it);
        }
        let place = usize::try_from(place).ok()?;
        let token = self.known.get(place.checked_sub(1)?)?;
        Some((token.role, CallerName::Token(place)))
    }
}

/// Whether the server may listen where it is told to: an address that others reach needs
/// tokens.
///
/// # Errors
/// Others can reach it and nothing would hold them back.
pub(crate) fn may_listen(server: &Server, insecure: bool) -> Result<(), Failure> {
    if server.listen.ip().to_canonical().is_loopback() || !server.tokens.is_empty() || insecure {
        return Ok(());
    }
    let message = format!(
        "without tokens everybody who reaches {} could take GPUs away: the server does not start",
        server.listen
    );
    Err(Failure::new(Code::Configuration, message).hint(
        "set server.tokens (GPULOCK_SERVER__TOKENS=operate:@/etc/gpulock/token), or listen on \
         127.0.0.1, or say --insecure-no-auth",
    ))
}

fn read(path: &Path) -> Result<(String, Option<String>), Failure> {
    let shown = path.display();
    let failed = |reason: String| {
        Failure::new(Code::Configuration, format!("the token file {shown} {reason}"))
            .hint("write one token alone into a file that only gpulock's user can read")
    };
    // A pipe would hold the start up.
    let metadata = path.metadata().map_err(|error| failed(format!("cannot be read: {error}")))?;
    if !metadata.is_file() {
        return Err(failed("is not a file".to_owned()));
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE).read_to_string(&mut text));
    read.map_err(|error| failed(format!("cannot be read: {error}")))?;
    let secret = text.trim();
    if secret.is_empty() || secret.contains(char::is_whitespace) {
        return Err(failed("does not hold exactly one token".to_owned()));
    }
    let is_open = metadata.permissions().mode() & 0o004 != 0;
    let warning = is_open.then(|| {
        format!("the token file {shown} can be read by everybody\nhint: chmod o-r {shown}")
    });
    Ok((secret.to_owned(), warning))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gpulock::config::{Config, Sources};

    use super::*;

    fn server(tokens: &str, listen: &str) -> Server {
        let flags = [("server.tokens", tokens), ("server.listen", listen)];
        let flags = flags.into_iter().filter(|(_, value)| !value.is_empty());
        let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let sources = Sources { flags, ..Sources::default() };
        Config::load(&sources).unwrap().config.server
    }

    #[test]
    fn each_bearer_is_known_by_place_and_role() {
        let server = server("read:first-secret-0001,operate:second-secret-02", "");
        let (tokens, warnings) = Tokens::load(&server.tokens).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        let reader = tokens.bearer("first-secret-0001");
        assert_eq!(reader, Some((Role::Read, CallerName::Token(1))));
        let operator = tokens.bearer("second-secret-02");
        assert_eq!(operator, Some((Role::Operate, CallerName::Token(2))));
        for wrong in ["", "first", "first-secret-0001 ", "First-secret-0001", "second-secret-0"] {
            assert_eq!(tokens.bearer(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_secret_is_kept_or_told() {
        let server = server("operate:canary", "");
        let (tokens, warnings) = Tokens::load(&server.tokens).unwrap();
        assert!(!format!("{tokens:?} {warnings:?}").contains("canary"));
        assert!(warnings[0].contains("token 1 of server.tokens is shorter"), "{warnings:?}");
    }

    #[test]
    fn a_file_is_read_and_what_is_wrong_with_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let load = || Tokens::load(&server(&format!("operate:@{}", path.display()), "").tokens);
        assert!(load().unwrap_err().message.contains("cannot be read"));
        fs::write(&path, "\n").unwrap();
        assert!(load().unwrap_err().message.contains("exactly one token"));
        fs::write(&path, "canary-canary-canary\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let (tokens, warnings) = load().unwrap();
        assert!(tokens.bearer("canary-canary-canary").is_some());
        assert!(warnings[0].contains("can be read by everybody"), "{warnings:?}");
        assert!(!warnings[0].contains("canary"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load().unwrap().1, Vec::<String>::new());
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token_or_the_flag() {
        for (listen, tokens, insecure, may) in [
            ("127.0.0.1:1", "", false, true),
            ("127.8.8.8:1", "", false, true),
            ("[::1]:1", "", false, true),
            ("[::ffff:127.0.0.1]:1", "", false, true),
            ("0.0.0.0:1", "", false, false),
            ("[::]:1", "", false, false),
            ("192.0.2.7:1", "", false, false),
            ("[::ffff:192.0.2.7]:1", "", false, false),
            ("0.0.0.0:1", "read:a-secret-to-show", false, true),
            ("0.0.0.0:1", "", true, true),
        ] {
            let outcome = may_listen(&server(tokens, listen), insecure);
            assert_eq!(outcome.is_ok(), may, "{listen} {tokens} {insecure}");
            if let Err(failure) = outcome {
                assert!(failure.hint.unwrap().contains("--insecure-no-auth"));
            }
        }
    }
}
