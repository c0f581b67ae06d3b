//! URLs of data sets.

use std::path::Path;

use crate::error::RemoteError;

/// What a URL begins with, and what it means.
pub(crate) const SCHEMES: &str = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, \
     https://HOST/PATH, hf://datasets/OWNER/NAME/PATH or file:///FOLDER";

/// How the files at a URL are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    S3,
    Google,
    Azure,
    Web,
    File,
}

/// The URL of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub scheme: Scheme,
    /// Without a `/` at its end, a query, a user name and a password.
    pub base: String,
    /// User name and password, separated by a colon.
    pub user: Option<String>,
    /// What follows the `?`.
    pub query: Option<String>,
}

/// Whether the path is a URL: it begins with letters and `://`.
#[must_use]
pub fn is_url(path: &Path) -> bool {
    path.to_str().is_some_and(|text| {
        text.split_once("://").is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '+')
        })
    })
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`RemoteError::Url`] when it is not one of a data set.
    pub fn parse(url: &str) -> Result<Self, RemoteError> {
        let refuse = |reason: &str| {
            Err(RemoteError::Url {
                url: without_secrets(url),
                reason: format!("{reason}, expected {SCHEMES}"),
            })
        };
        let Some((scheme, rest)) = url.split_once("://") else { return refuse("not a URL") };
        if url.chars().any(|letter| letter.is_control() || letter == ' ') {
            return refuse("it has a space or a control character");
        }
        let lower = scheme.to_ascii_lowercase();
        let scheme = match &*lower {
            "s3" | "s3a" => Scheme::S3,
            "gs" | "gcs" => Scheme::Google,
            "az" | "azure" | "abfs" | "abfss" | "adl" => Scheme::Azure,
            "http" | "https" => Scheme::Web,
            "hf" => {
                return Self::of_hugging_face(rest).map_or_else(|| refuse("not a data set of the Hub"), Ok);
            }
            "file" => Scheme::File,
            _ => return refuse(&format!("unknown scheme `{lower}`")),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) if scheme == Scheme::Web => (rest, Some(query.to_owned())),
            _ => (rest, None),
        };
        let host_end = rest.find('/').unwrap_or(rest.len());
        // In `abfs://CONTAINER@ACCOUNT…/`, it is no user.
        let (user, rest) = match rest[..host_end].rsplit_once('@') {
            Some((user, _)) if scheme == Scheme::Web => (Some(user.to_owned()), &rest[user.len() + 1..]),
            _ => (None, rest),
        };
        let rest = rest.trim_end_matches('/');
        let is_absolute = rest.starts_with('/');
        match scheme {
            Scheme::File if !is_absolute => {
                return refuse("a file URL has three slashes and an absolute path");
            }
            Scheme::File => {}
            _ if is_absolute || rest.is_empty() => return refuse("it names no host or bucket"),
            _ => {}
        }
        Ok(Self { scheme, base: format!("{lower}://{rest}"), user, query })
    }

    /// `datasets/OWNER/NAME[@REVISION]/PATH` at the Hugging Face Hub.
    fn of_hugging_face(rest: &str) -> Option<Self> {
        let mut parts = rest.trim_end_matches('/').split('/');
        let (kind, owner, name) = (parts.next()?, parts.next()?, parts.next()?);
        if kind != "datasets" || owner.is_empty() || name.is_empty() {
            return None;
        }
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let hub = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".to_owned());
        let path: String = parts.map(|part| format!("/{part}")).collect();
        let base = format!("{}/datasets/{owner}/{name}/resolve/{revision}{path}", hub.trim_end_matches('/'));
        Some(Self { scheme: Scheme::Web, base, user: None, query: None })
    }

    /// The URL of a file, as messages name it.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    /// Name of the host, or of the bucket.
    #[cfg(any(feature = "object-store", test))]
    pub fn host(&self) -> &str {
        let rest = self.base.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', ':']).next().unwrap_or_default()
    }

    /// What follows the host, or the bucket, and its `/`.
    pub fn path(&self) -> &str {
        let rest = self.base.split_once("://").map_or("", |(_, rest)| rest);
        rest.split_once('/').map_or("", |(_, path)| path)
    }
}

/// The URL without user name, password and query.
fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if scheme.starts_with("http") => format!("{scheme}://{}", &rest[at + 1..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> (Scheme, String) {
        let address = Address::parse(url).unwrap();
        (address.scheme, address.base)
    }

    #[test]
    fn every_scheme_is_known() {
        for (url, scheme, expected) in [
            ("s3://bucket/a/b/", Scheme::S3, "s3://bucket/a/b"),
            ("S3://bucket", Scheme::S3, "s3://bucket"),
            ("gs://bucket/a", Scheme::Google, "gs://bucket/a"),
            ("az://container/a", Scheme::Azure, "az://container/a"),
            (
                "abfs://c@account.dfs.core.windows.net/a",
                Scheme::Azure,
                "abfs://c@account.dfs.core.windows.net/a",
            ),
            ("http://127.0.0.1:80/a", Scheme::Web, "http://127.0.0.1:80/a"),
            ("file:///a/b", Scheme::File, "file:///a/b"),
            (
                "hf://datasets/ada/birds@v1/small",
                Scheme::Web,
                "https://huggingface.co/datasets/ada/birds/resolve/v1/small",
            ),
        ] {
            assert_eq!(base(url), (scheme, expected.to_owned()), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_data_set_is_refused_with_what_is() {
        for url in
            ["ftp://host/a", "s3://", "s3:///key", "https:///a", "file://a/b", "hf://models/a/b", "s3://a b"]
        {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains("s3://BUCKET/PREFIX"), "{url}: {error}");
        }
    }

    #[test]
    fn passwords_and_queries_stay_out_of_messages() {
        let address = Address::parse("https://ada:secret@host/set?token=secret").unwrap();
        assert_eq!(
            (address.user.as_deref(), address.query.as_deref()),
            (Some("ada:secret"), Some("token=secret"))
        );
        assert_eq!(address.file("x"), "https://host/set/x");
        let error = Address::parse("https://ada:secret@/?token=secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_path_is_no_url() {
        for (path, expected) in [("s3://a/b", true), ("/data/set", false), ("set", false), ("a/b://c", false)]
        {
            assert_eq!(is_url(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_path() {
        let of = |url: &str| {
            let address = Address::parse(url).unwrap();
            (address.host().to_owned(), address.path().to_owned())
        };
        assert_eq!(of("s3://bucket/a/b"), ("bucket".into(), "a/b".into()));
        assert_eq!(of("http://host:80/a"), ("host".into(), "a".into()));
        assert_eq!(of("s3://bucket"), ("bucket".into(), String::new()));
    }
}
