//! What is wrong with TLS to a server, for people.

use rustls::CertificateError as Certificate;
use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};

/// What is wrong, and what in the URL would help. `plain` is how a URL without TLS begins.
pub(super) fn of_tls(error: &rustls::Error, plain: &str) -> String {
    match error {
        // Two authorities of one name differ by their signatures.
        InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "its certificate is signed by nobody trusted here; ca=/FILE.pem in the URL names \
             the authority to trust"
                .to_owned()
        }
        InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "its certificate is for another host".to_owned(),
        InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        AlertReceived(alert) => format!(
            "it refuses TLS with us ({alert:?}); cert=/FILE.pem and key=/FILE.pem in the URL \
             are our certificate"
        ),
        InvalidMessage(_) => format!("it does not speak TLS; without TLS write {plain}"),
        other => brief(&other.to_string()),
    }
}

/// The first line, fit for a terminal.
pub(super) fn brief(text: &str) -> String {
    const LONGEST: usize = 200;
    let line = text.lines().next().unwrap_or_default().trim_end_matches(['.', ' ']);
    line.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
