//! Why a request failed, and whether to try again.

use std::fmt;

/// A request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub kind: Kind,
    /// What happened.
    pub text: String,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It may go better next time.
    Passing,
    /// There is no such file.
    Missing,
    /// The server does not let this user read it.
    Refused,
    /// The credentials were good once.
    Expired,
    /// The server does not give the range that it was asked for.
    Ranges,
    /// Nothing helps.
    Final,
    /// The cache cannot be written to.
    Disk,
    /// Somebody has ended it.
    Stopped,
}

impl Fault {
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub fn stopped() -> Self {
        Self::new(Kind::Stopped, "stopped")
    }

    /// The fault of an answer with the status code `status`, whose body begins with `body`.
    pub fn of_status(status: u16, reason: &str, body: &str) -> Self {
        let says = said(body);
        let has_expired =
            ["ExpiredToken", "TokenRefreshRequired", "RequestExpired"].iter().any(|code| body.contains(code))
                || (matches!(status, 401 | 403) && body.to_lowercase().contains("expired"));
        let kind = match status {
            _ if has_expired => Kind::Expired,
            401 | 403 => Kind::Refused,
            404 | 410 => Kind::Missing,
            408 | 425 | 429 | 500 | 502..=504 | 506..=599 => Kind::Passing,
            _ => Kind::Final,
        };
        let reason = if reason.is_empty() { String::new() } else { format!(" {reason}") };
        Self::new(kind, format!("HTTP status {status}{reason}{says}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Code and message of an XML answer of object storage, or the first line of a short text, in parentheses.
fn said(body: &str) -> String {
    let within = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once("</")?.0.trim().to_owned())
    };
    let text = match (within("Code"), within("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) if body.trim_start().starts_with('<') => return String::new(),
        (None, None) => body.trim().lines().next().unwrap_or_default().to_owned(),
    };
    let short: String = text.chars().filter(|letter| !letter.is_control()).take(160).collect();
    if short.is_empty() { short } else { format!(" ({})", short.trim_end_matches('.')) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_try_again() {
        for (status, kind) in [
            (403, Kind::Refused),
            (401, Kind::Refused),
            (404, Kind::Missing),
            (410, Kind::Missing),
            (500, Kind::Passing),
            (503, Kind::Passing),
            (429, Kind::Passing),
            (400, Kind::Final),
            (501, Kind::Final),
            (301, Kind::Final),
        ] {
            assert_eq!(Fault::of_status(status, "", "").kind, kind, "{status}");
        }
    }

    #[test]
    fn credentials_that_have_expired_are_told_from_wrong_ones() {
        let body = |code| format!("<?xml?><Error><Code>{code}</Code><Message>No.</Message></Error>");
        let expired = Fault::of_status(400, "Bad Request", &body("ExpiredToken"));
        assert_eq!(expired.kind, Kind::Expired);
        assert_eq!(expired.text, "HTTP status 400 Bad Request (ExpiredToken: No)");
        assert_eq!(Fault::of_status(403, "", &body("AccessDenied")).kind, Kind::Refused);
        assert_eq!(Fault::of_status(401, "", r#"{"error": "token has Expired"}"#).kind, Kind::Expired);
    }

    #[test]
    fn a_page_for_browsers_is_not_quoted() {
        assert_eq!(Fault::of_status(502, "Bad", "<html><body>502</body></html>").text, "HTTP status 502 Bad");
        assert_eq!(Fault::of_status(502, "", "no\u{1b}[31m\nmore").text, "HTTP status 502 (no[31m)");
    }
}
