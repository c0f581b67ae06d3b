//! The HTTP client, with the system's certificates and a deadline for everything.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::fault::{Fault, Kind};

/// Redirections that are followed, as those of a hub to where its files are.
const REDIRECTS: u32 = 5;

/// Bytes of an answer that says why there is none.
const MOST_OF_A_REFUSAL: u64 = 16 << 10;

/// A client that trusts the system's certificate authorities (or those of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`), or Mozilla's if there are none, and takes proxies from the environment.
pub(crate) fn agent(silence: Duration, follows: bool) -> Agent {
    let native = rustls_native_certs::load_native_certs().certs;
    let roots = match native.is_empty() {
        true => RootCerts::WebPki,
        false => {
            let all = native.iter().map(|der| Certificate::from_der(der).to_owned());
            RootCerts::Specific(Arc::new(all.collect()))
        }
    };
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .http_status_as_error(false)
        .max_redirects(if follows { REDIRECTS } else { 0 })
        .max_redirects_will_error(false)
        .user_agent(concat!("fovea/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(Some(silence))
        .timeout_connect(Some(silence))
        .timeout_send_request(Some(silence))
        .timeout_recv_response(Some(silence))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .build()
        .new_agent()
}

/// Whether what is sent to this URI cannot be read on the way: by TLS, or within the machine.
pub(crate) fn is_private(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    uri.scheme_str() == Some("https") || matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// The fault of a request that got no answer.
pub(crate) fn no_answer(error: &ureq::Error) -> Fault {
    let kind = match error {
        ureq::Error::BadUri(_) | ureq::Error::Tls(_) | ureq::Error::Http(_) => Kind::Final,
        // A certificate does not become right by itself; what else is said here is a broken connection.
        ureq::Error::Rustls(_) => Kind::Final,
        _ => Kind::Passing,
    };
    Fault::new(kind, error.to_string())
}

/// The fault of an answer with a status that is no success.
pub(crate) fn refusal(response: Response<Body>) -> Fault {
    let status = response.status();
    let mut body = Vec::new();
    // What it says is for the message alone.
    let _ = response.into_body().into_reader().take(MOST_OF_A_REFUSAL).read_to_end(&mut body);
    let reason = status.canonical_reason().unwrap_or_default();
    Fault::of_status(status.as_u16(), reason, &String::from_utf8_lossy(&body))
}
