//! Looks up the URL of a file in a Python package index: the "simple" API, as JSON (PEP 691) or HTML (PEP
//! 503).

use serde::Deserialize;
use ureq::{Agent, ResponseExt};

use super::download::redacted;
use super::{FetchError, Wheel};

const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// Index pages of the largest projects have several megabytes.
const LARGEST_PAGE_BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
struct Page {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    url: String,
}

/// The URL of `wheel` in the index at `base`.
pub(super) fn look_up(agent: &Agent, base: &str, wheel: &Wheel) -> Result<String, FetchError> {
    let page = format!("{}/{}/", base.trim_end_matches('/'), wheel.package);
    let place = redacted(&page);
    let transport =
        |error: ureq::Error| FetchError::Transport { url: place.clone(), reason: error.to_string() };
    let mut response = agent.get(&page).header("Accept", ACCEPT).call().map_err(transport)?;
    if !response.status().is_success() {
        return Err(FetchError::Status { url: place, status: response.status().as_u16() });
    }
    // Links are relative to the page after redirects.
    let landed = response.get_uri().to_string();
    let is_json = response
        .headers()
        .get("Content-Type")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("json"));
    let body =
        response.body_mut().with_config().limit(LARGEST_PAGE_BYTES).read_to_string().map_err(transport)?;
    let link = if is_json { find_in_json(&body, wheel.file) } else { Ok(find_in_html(&body, wheel.file)) };
    match link {
        Ok(Some(link)) => Ok(resolve(&landed, &link)),
        Ok(None) => Err(FetchError::NotListed { url: place }),
        Err(error) => Err(FetchError::BadIndex { url: place, reason: error.to_string() }),
    }
}

fn find_in_json(body: &str, file: &str) -> Result<Option<String>, serde_json::Error> {
    let page: Page = serde_json::from_str(body)?;
    Ok(page.files.into_iter().find(|entry| entry.filename == file).map(|entry| entry.url))
}

/// The target of the first link that ends with the file's name, without its fragment: the hash there is not
/// needed, because ours is pinned.
fn find_in_html(body: &str, file: &str) -> Option<String> {
    body.split("href=").skip(1).find_map(|rest| {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let target = rest[1..].split(quote).next()?;
        let path = target.split(['#', '?']).next()?;
        (path.rsplit('/').next() == Some(file))
            .then(|| target.split('#').next().unwrap_or(target).replace("&amp;", "&"))
    })
}

/// Resolves a link on the page `base` by RFC 3986, section 5, for the forms that indexes use.
fn resolve(base: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    if let Some(link) = link.strip_prefix("//") {
        return format!("{scheme}://{link}");
    }
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if link.starts_with('/') {
        return format!("{scheme}://{host}{link}");
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut folders: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if !path.ends_with('/') {
        folders.pop();
    }
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => drop(folders.pop()),
            _ => folders.push(part),
        }
    }
    format!("{scheme}://{host}/{}", folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_against_the_page() {
        let page = "https://host:8080/root/simple/pack/";
        for (link, expected) in [
            ("https://files/a.whl", "https://files/a.whl"),
            ("//files/a.whl", "https://files/a.whl"),
            ("/packages/a.whl", "https://host:8080/packages/a.whl"),
            ("a.whl", "https://host:8080/root/simple/pack/a.whl"),
            ("../../packages/a.whl", "https://host:8080/root/packages/a.whl"),
            ("./a.whl", "https://host:8080/root/simple/pack/a.whl"),
        ] {
            assert_eq!(resolve(page, link), expected, "{link}");
        }
        assert_eq!(resolve("http://host/simple/pack/index.html", "a.whl"), "http://host/simple/pack/a.whl");
    }

    #[test]
    fn a_file_is_found_in_the_html_form() {
        let page = r#"<html><a href="../x/a-1.whl#sha256=00">a-1.whl</a> <a class=b href='../x/a-2.whl?k=1&amp;l=2#sha256=11'>
            a-2.whl</a></html>"#;
        assert_eq!(find_in_html(page, "a-1.whl").as_deref(), Some("../x/a-1.whl"));
        assert_eq!(find_in_html(page, "a-2.whl").as_deref(), Some("../x/a-2.whl?k=1&l=2"));
        assert_eq!(find_in_html(page, "a-3.whl"), None);
    }
}
