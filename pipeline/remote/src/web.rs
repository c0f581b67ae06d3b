//! Files behind a web server.

use std::env;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body};

use crate::address::Address;
use crate::error::RemoteError;
use crate::fault::{Fault, Kind};
use crate::http::{agent, is_private, no_answer, refusal};
use crate::source::{Answer, Source, Uploaded};

/// Holds a token for the host that the user names.
const TOKEN: &str = "FOVEA_DATA_TOKEN";

/// Holds a token for the Hugging Face Hub.
const HUB_TOKEN: &str = "HF_TOKEN";

/// The files below a URL.
#[derive(Debug)]
pub(crate) struct Web {
    address: Address,
    agent: Agent,
    /// Whether credentials may be sent there.
    is_private: bool,
}

impl Web {
    pub fn new(address: &Address, silence: Duration) -> Result<Self, RemoteError> {
        let uri: Uri = address.base.parse().map_err(|error: ureq::http::uri::InvalidUri| {
            RemoteError::Url { url: address.base.clone(), reason: error.to_string() }
        })?;
        Ok(Self { address: address.clone(), agent: agent(silence, true), is_private: is_private(&uri) })
    }

    /// The value of the header `Authorization`. A client that follows a redirection to another host does not
    /// send it there.
    fn authorization(&self) -> Option<String> {
        if !self.is_private {
            return None;
        }
        if let Some(user) = &self.address.user {
            return Some(format!("Basic {}", STANDARD.encode(user)));
        }
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let hub = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let is_hub = self.address.base.starts_with(&format!("{}/", hub.trim_end_matches('/')));
        let token = set(TOKEN).or_else(|| set(HUB_TOKEN).filter(|_| is_hub))?;
        Some(format!("Bearer {}", token.trim()))
    }
}

impl Source for Web {
    fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Answer, Fault> {
        let mut url = self.address.file(name);
        if let Some(query) = &self.address.query {
            url = format!("{url}?{query}");
        }
        // In a compressed answer, the range would mean something else.
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if let Some(range) = &range {
            request = request.header("Range", format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(authorization) = self.authorization() {
            request = request.header("Authorization", authorization);
        }
        let response = request.call().map_err(|error| no_answer(&error))?;
        let (start, total) = match (response.status(), &range) {
            (StatusCode::OK, _) => (0, number(&response, "Content-Length")),
            (StatusCode::PARTIAL_CONTENT, Some(range)) => given(&response, range)?,
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                let text = "HTTP status 416: the file at the server is shorter than the data set says";
                return Err(Fault::new(Kind::Final, text));
            }
            _ => return Err(refusal(response)),
        };
        Ok(Answer { start, total, body: Box::new(response.into_body().into_reader()) })
    }

    fn remedy(&self) -> &'static str {
        if self.is_private {
            "set FOVEA_DATA_TOKEN (HF_TOKEN for the Hugging Face Hub) to a token that may read it"
        } else {
            "tokens and passwords are sent by https:// alone"
        }
    }

    fn uploaded(&self, _name: &str) -> Result<Option<Uploaded>, Fault> {
        Err(read_only())
    }

    fn put(&self, _name: &str, _file: &Path, _blake3: &str) -> Result<(), Fault> {
        Err(read_only())
    }

    fn remove(&self, _name: &str) -> Result<(), Fault> {
        Err(read_only())
    }
}

fn read_only() -> Fault {
    Fault::new(Kind::Final, "a web server can be read only")
}

fn number(response: &Response<Body>, header: &str) -> Option<u64> {
    response.headers().get(header)?.to_str().ok()?.trim().parse().ok()
}

/// Where an answer to a request for `range` begins, and the length of the whole file.
fn given(response: &Response<Body>, range: &Range<u64>) -> Result<(u64, Option<u64>), Fault> {
    let header = response.headers().get("Content-Range").and_then(|value| value.to_str().ok());
    let parsed = header.and_then(|value| {
        let (bytes, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = bytes.split_once('-')?;
        Some((start.trim().parse::<u64>().ok()?, total.trim().parse().ok()))
    });
    match parsed {
        Some((start, total)) if start == range.start => Ok((start, total)),
        _ => {
            let (found, expected) = (header.unwrap_or("none"), range.start);
            let text =
                format!("the server was asked for bytes from {expected}, its Content-Range is {found}");
            Err(Fault::new(Kind::Ranges, text))
        }
    }
}
