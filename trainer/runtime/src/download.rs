//! Downloads one pinned file over HTTP, and resumes an interrupted download.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fovea_files::sha256_of;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{FetchError, Progress, Wheel};

/// Consecutive connections without new bytes after which the download fails.
const ATTEMPTS_WITHOUT_PROGRESS: u32 = 3;
const BUFFER_BYTES: usize = 128 << 10;

/// A client that trusts the system's certificate authorities (or those of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`), or Mozilla's if there are none, and takes proxies from the environment. It times out
/// after a minute without data.
pub(super) fn agent() -> Agent {
    let native = rustls_native_certs::load_native_certs().certs;
    let roots = if native.is_empty() {
        RootCerts::WebPki
    } else {
        RootCerts::Specific(Arc::new(
            native.iter().map(|der| Certificate::from_der(der).to_owned()).collect(),
        ))
    };
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .http_status_as_error(false)
        .user_agent(concat!("fovea/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .new_agent()
}

/// How one connection ended.
enum Outcome {
    /// The file has all its bytes.
    Complete,
    /// The connection broke; the bytes received are kept.
    Broken(FetchError),
}

/// Downloads `wheel` from `url` to `partial`, complete and with the pinned hash. Bytes that are already in
/// `partial` are not fetched again if the server can resume.
pub(super) fn download(
    agent: &Agent,
    url: &str,
    partial: &Path,
    wheel: &Wheel,
    progress: &mut dyn Progress,
) -> Result<(), FetchError> {
    let resumed = length(partial) > 0;
    receive_all(agent, url, partial, wheel, progress)?;
    let mut got = sha256_of(partial).map_err(FetchError::disk(partial))?;
    if got != wheel.sha256 && resumed {
        // The wrong bytes may be those of the earlier download.
        remove(partial)?;
        receive_all(agent, url, partial, wheel, progress)?;
        got = sha256_of(partial).map_err(FetchError::disk(partial))?;
    }
    if got != wheel.sha256 {
        remove(partial)?;
        return Err(FetchError::WrongHash { place: redacted(url), expected: wheel.sha256.to_owned(), got });
    }
    progress.finished(wheel.file);
    Ok(())
}

fn receive_all(
    agent: &Agent,
    url: &str,
    partial: &Path,
    wheel: &Wheel,
    progress: &mut dyn Progress,
) -> Result<(), FetchError> {
    if length(partial) > wheel.bytes {
        remove(partial)?;
    }
    let mut most = length(partial);
    progress.started(wheel.file, most, wheel.bytes);
    let mut without_progress = 0;
    loop {
        let error = match receive(agent, url, partial, wheel, progress)? {
            Outcome::Complete => return Ok(()),
            Outcome::Broken(error) => error,
        };
        let have = length(partial);
        without_progress = if have > most { 0 } else { without_progress + 1 };
        if without_progress == ATTEMPTS_WITHOUT_PROGRESS {
            return Err(error);
        }
        most = most.max(have);
        tracing::debug!(url = redacted(url), have, %error, "connection lost, retrying");
    }
}

/// One connection. Errors are those that a retry cannot fix.
fn receive(
    agent: &Agent,
    url: &str,
    partial: &Path,
    wheel: &Wheel,
    progress: &mut dyn Progress,
) -> Result<Outcome, FetchError> {
    let have = length(partial);
    if have == wheel.bytes {
        return Ok(Outcome::Complete);
    }
    // In a compressed response the range would be meaningless.
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let transport = |reason: String| FetchError::Transport { url: redacted(url), reason };
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return Ok(Outcome::Broken(transport(error.to_string()))),
    };
    let start = match response.status() {
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(have) => have,
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            remove(partial)?;
            return Ok(Outcome::Broken(transport("the server cannot resume the download".to_owned())));
        }
        status => {
            let error = FetchError::Status { url: redacted(url), status: status.as_u16() };
            return if status.is_server_error() { Ok(Outcome::Broken(error)) } else { Err(error) };
        }
    };

    let mut file = open_at(partial, start).map_err(FetchError::disk(partial))?;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut reached = start;
    progress.reached(reached);
    let ended = loop {
        let got = match body.read(&mut buffer) {
            Ok(0) => break None,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Some(error.to_string()),
        };
        reached += got as u64;
        if reached > wheel.bytes {
            remove(partial)?;
            return Err(FetchError::TooLong { url: redacted(url), expected_bytes: wheel.bytes });
        }
        file.write_all(&buffer[..got]).map_err(FetchError::disk(partial))?;
        progress.reached(reached);
    };
    file.sync_all().map_err(FetchError::disk(partial))?;
    Ok(match ended {
        _ if reached == wheel.bytes => Outcome::Complete,
        Some(reason) if reached == start => Outcome::Broken(transport(reason)),
        _ => Outcome::Broken(FetchError::Truncated {
            url: redacted(url),
            got_bytes: reached,
            expected_bytes: wheel.bytes,
        }),
    })
}

/// Position of the first byte in `Content-Range: bytes 100-199/200`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let value = response.headers().get("Content-Range")?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn open_at(path: &Path, start: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.set_len(start)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.len())
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::disk(path)(error)),
        _ => Ok(()),
    }
}

/// The URL without user name and password, for messages.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::{Reply, Server, noise, wheel_of};

    fn fetch(server: &Server, partial: &Path, wheel: &Wheel) -> Result<(), FetchError> {
        download(&agent(), &server.url("file"), partial, wheel, &mut ())
    }

    #[test]
    fn a_broken_download_is_resumed_where_it_ended() {
        let content = noise(300_000);
        let server = Server::start(vec![
            Reply::cut_after(&content, 100_000),
            Reply::cut_after(&content, 250_000),
            Reply::whole(&content),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("part");
        fetch(&server, &partial, &wheel_of(&content)).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), content);
        let ranges = server.ranges();
        assert_eq!(ranges[0], None);
        assert_eq!(ranges.len(), 3);
        assert!(ranges[1].unwrap() > 0 && ranges[2].unwrap() > ranges[1].unwrap(), "{ranges:?}");
    }

    #[test]
    fn bytes_from_an_earlier_process_are_not_fetched_again() {
        let content = noise(50_000);
        let server = Server::start(vec![Reply::whole(&content)]);
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("part");
        fs::write(&partial, &content[..20_000]).unwrap();
        fetch(&server, &partial, &wheel_of(&content)).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), content);
        assert_eq!(server.ranges(), [Some(20_000)]);
    }

    #[test]
    fn a_server_that_cannot_resume_is_read_from_the_beginning() {
        let content = noise(50_000);
        let server = Server::start(vec![Reply::whole(&content).without_ranges()]);
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("part");
        fs::write(&partial, &content[..20_000]).unwrap();
        fetch(&server, &partial, &wheel_of(&content)).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), content);
    }

    #[test]
    fn a_bad_half_from_an_earlier_process_is_replaced() {
        let content = noise(50_000);
        let server = Server::start(vec![Reply::whole(&content), Reply::whole(&content)]);
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("part");
        fs::write(&partial, vec![7; 20_000]).unwrap();
        fetch(&server, &partial, &wheel_of(&content)).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), content);
        assert_eq!(server.ranges(), [Some(20_000), None]);
    }

    #[test]
    fn a_file_with_another_hash_is_refused_and_removed() {
        let content = noise(50_000);
        let mut tampered = content.clone();
        tampered[40_000] ^= 1;
        let server = Server::start(vec![Reply::whole(&tampered)]);
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("part");
        let error = fetch(&server, &partial, &wheel_of(&content)).unwrap_err();
        assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
        assert!(!partial.exists());
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let content = noise(50_000);
        let server = Server::start(vec![Reply::whole(&noise(50_001))]);
        let folder = tempfile::tempdir().unwrap();
        let error = fetch(&server, &folder.path().join("part"), &wheel_of(&content)).unwrap_err();
        assert!(matches!(error, FetchError::TooLong { expected_bytes: 50_000, .. }), "{error}");
    }

    #[test]
    fn a_file_that_stays_too_short_is_an_error_and_is_kept_for_the_next_time() {
        let content = noise(50_000);
        let replies = (0..4).map(|_| Reply::cut_after(&content, 30_000)).collect();
        let server = Server::start(replies);
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("part");
        let error = fetch(&server, &partial, &wheel_of(&content)).unwrap_err();
        assert!(
            matches!(
                error,
                FetchError::Truncated { got_bytes: 30_000, expected_bytes: 50_000, .. }
                    | FetchError::Transport { .. }
            ),
            "{error}"
        );
        assert_eq!(length(&partial), 30_000);
    }

    #[test]
    fn a_missing_file_is_an_error_with_its_status_and_is_not_retried() {
        let server = Server::start(vec![Reply::status(404)]);
        let folder = tempfile::tempdir().unwrap();
        let error = fetch(&server, &folder.path().join("part"), &wheel_of(b"x")).unwrap_err();
        assert!(matches!(error, FetchError::Status { status: 404, .. }), "{error}");
        assert_eq!(server.ranges().len(), 1);
    }

    #[test]
    fn passwords_stay_out_of_messages() {
        assert_eq!(redacted("https://ada:secret@host/simple/"), "https://host/simple/");
        assert_eq!(redacted("https://host/a@b"), "https://host/a@b");
    }
}
