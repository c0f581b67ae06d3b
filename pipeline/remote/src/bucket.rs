//! Files in object storage: signatures and credentials by `object_store`, over the HTTP client of `http.rs`.

use std::error::Error;
use std::future::poll_fn;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures_core::Stream;
use http_body::{Body as _, Frame};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{
    Attribute, AttributeValue, Attributes, ClientOptions, GetOptions, GetRange, ObjectStore,
    PutMultipartOptions, RetryConfig,
};
use tokio::runtime::{Builder, Runtime};
use ureq::Agent;
use ureq::http::{Request, Uri};

use crate::address::{Address, Scheme};
use crate::error::RemoteError;
use crate::fault::{Fault, Kind};
use crate::http::{agent, no_answer, refusal};
use crate::settings::Settings;
use crate::source::{Answer, Source, Uploaded};

/// Bytes of one part of an upload; storage takes 10,000 parts of a file.
const PART_BYTES: u64 = 16 << 20;
const MOST_PARTS: u64 = 10_000;

/// Under which name the digest of a file is kept beside it.
const DIGEST: &str = "blake3";

/// The deadline for what a cloud gives its machines: outside of a cloud, nothing answers there.
const METADATA_DEADLINE: Duration = Duration::from_secs(2);

/// The files below a prefix of a bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    address: Address,
    prefix: Key,
    connector: Connector,
    store: Mutex<Arc<dyn ObjectStore>>,
}

impl Bucket {
    pub fn new(address: &Address, settings: &Settings) -> Result<Self, RemoteError> {
        let wrong = |reason: String| RemoteError::Url { url: address.base.clone(), reason };
        let prefix = Key::parse(address.path()).map_err(|error| wrong(error.to_string()))?;
        let connector = Connector { agent: agent(settings.silence, false), has_answered: Arc::default() };
        let store = build(address, &connector).map_err(|error| wrong(cause(&error)))?;
        Ok(Self { address: address.clone(), prefix, connector, store: Mutex::new(store) })
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn key(&self, name: &str) -> Key {
        self.prefix.clone().join(name)
    }
}

/// The client of a bucket, with the credentials that there are now.
fn build(address: &Address, connector: &Connector) -> object_store::Result<Arc<dyn ObjectStore>> {
    // The caller tries again, from what has arrived.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let connector = connector.clone();
    Ok(match address.scheme {
        Scheme::Google => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(address.host())
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
        Scheme::Azure => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(&address.base)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
        _ => Arc::new(
            AmazonS3Builder::from_env()
                .with_bucket_name(address.host())
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
    })
}

impl Source for Bucket {
    fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Answer, Fault> {
        let runtime = runtime()?;
        let (store, key) = (self.store(), self.key(name));
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let got = runtime.block_on(store.get_opts(&key, options)).map_err(fault)?;
        let (start, total) = (got.range.start, Some(got.meta.size));
        let body = Box::new(Body { stream: got.into_stream(), runtime, rest: Bytes::new() });
        Ok(Answer { start, total, body })
    }

    fn look_again(&self) {
        // If they are wrong now, those from before are as good.
        if let Ok(new) = build(&self.address, &self.connector) {
            *self.store.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    fn remedy(&self) -> &'static str {
        match self.address.scheme {
            Scheme::Google => {
                "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to credentials that may use the \
                 bucket, or GOOGLE_SKIP_SIGNATURE=true for a public one"
            }
            Scheme::Azure => {
                "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, to \
                 credentials that may use the container"
            }
            _ => {
                "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION to credentials that may use the bucket \
                 (`aws configure export-credentials --format env` prints those of a profile), or \
                 AWS_SKIP_SIGNATURE=true for a public one"
            }
        }
    }

    fn uploaded(&self, name: &str) -> Result<Option<Uploaded>, Fault> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match runtime()?.block_on(self.store().get_opts(&self.key(name), options)).map_err(fault) {
            Err(fault) if fault.kind == Kind::Missing => Ok(None),
            Err(fault) => Err(fault),
            Ok(got) => {
                let blake3 = got.attributes.get(&Attribute::Metadata(DIGEST.into()));
                Ok(Some(Uploaded {
                    bytes: got.meta.size,
                    blake3: blake3.map(|value: &AttributeValue| value.to_string()),
                }))
            }
        }
    }

    fn put(&self, name: &str, file: &Path, blake3: &str) -> Result<(), Fault> {
        let disk = |error: io::Error| Fault::new(Kind::Disk, format!("{}: {error}", file.display()));
        let (runtime, store, key) = (runtime()?, self.store(), self.key(name));
        let mut source = std::fs::File::open(file).map_err(disk)?;
        let bytes = source.metadata().map_err(disk)?.len();
        let part_bytes = PART_BYTES.max(bytes.div_ceil(MOST_PARTS));
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::Metadata(DIGEST.into()), blake3.to_owned().into());
        let mut part = |left: u64| {
            let mut part = vec![0; left.min(part_bytes) as usize];
            source.read_exact(&mut part).map(|()| part).map_err(disk)
        };
        if bytes <= part_bytes {
            let whole = part(bytes)?;
            return runtime
                .block_on(store.put_opts(&key, whole.into(), attributes.into()))
                .map(|_| ())
                .map_err(fault);
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let mut upload = runtime.block_on(store.put_multipart_opts(&key, options)).map_err(fault)?;
        let mut send = || {
            for start in (0..bytes).step_by(part_bytes as usize) {
                runtime.block_on(upload.put_part(part(bytes - start)?.into())).map_err(fault)?;
            }
            runtime.block_on(upload.complete()).map(|_| ()).map_err(fault)
        };
        let sent = send();
        if sent.is_err() {
            // Otherwise what has arrived would be kept, and paid for.
            let _ = runtime.block_on(upload.abort());
        }
        sent
    }

    fn remove(&self, name: &str) -> Result<(), Fault> {
        let (runtime, store, key) = (runtime()?, self.store(), self.key(name));
        let mut removed = store.delete_stream(Box::pin(Once(Some(Ok(key)))));
        match runtime.block_on(next(&mut removed)) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => {
                Some(fault(error)).filter(|fault| fault.kind != Kind::Missing).map_or(Ok(()), Err)
            }
        }
    }
}

/// What `object_store` waits with; the requests themselves block.
fn runtime() -> Result<Runtime, Fault> {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| Fault::new(Kind::Passing, format!("cannot wait for an answer: {error}")))
}

async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin + ?Sized)) -> Option<T> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

/// A stream of one thing.
struct Once<T>(Option<T>);

impl<T: Unpin> Stream for Once<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready(self.0.take())
    }
}

/// The fault of what `object_store` reports.
fn fault(error: object_store::Error) -> Fault {
    let mut inner: &(dyn Error + 'static) = &error;
    loop {
        if let Some(answered) = inner.downcast_ref::<Answered>() {
            return answered.0.clone();
        }
        match inner.source() {
            Some(source) => inner = source,
            None => break,
        }
    }
    let text = cause(&error);
    let kind = match &error {
        object_store::Error::NotFound { .. } => Kind::Missing,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            Kind::Refused
        }
        object_store::Error::NotSupported { .. } | object_store::Error::InvalidPath { .. } => Kind::Final,
        // Texts alone tell the errors of a range from others.
        _ if ["non-partial", "CONTENT_RANGE", "Content-Range", "Requested"]
            .iter()
            .any(|part| text.contains(part)) =>
        {
            Kind::Ranges
        }
        _ => Kind::Passing,
    };
    Fault::new(kind, text)
}

/// The innermost reason of an error, in one line.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Connects `object_store` to the client of this crate.
#[derive(Clone, Debug)]
struct Connector {
    agent: Agent,
    /// Whether the machine has given credentials.
    has_answered: Arc<AtomicBool>,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// An answer that is no success, as an error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Answered(Fault);

impl Connector {
    /// Sends the request; an answer that is no success is a fault.
    fn send(&self, request: HttpRequest) -> Result<HttpResponse, Fault> {
        let (parts, body) = request.into_parts();
        let is_metadata = is_link_local(&parts.uri);
        // Without a body, their length must be said to be 0.
        let has_body = !body.is_empty() || parts.method == "POST" || parts.method == "PUT";
        let response = if has_body {
            self.agent.run(Request::from_parts(parts, &collected(body)[..]))
        } else if is_metadata {
            let request = self.agent.configure_request(Request::from_parts(parts, ()));
            self.agent.run(request.timeout_global(Some(METADATA_DEADLINE)).build())
        } else {
            self.agent.run(Request::from_parts(parts, ()))
        };
        let response = match response {
            Err(_) if is_metadata && !self.has_answered.load(Ordering::Relaxed) => {
                return Err(Fault::new(Kind::Refused, "there are no credentials in the environment"));
            }
            Err(error) => return Err(no_answer(&error)),
            Ok(response) => response,
        };
        match response.status().as_u16() {
            // A machine without a role answers so.
            400..=499 if is_metadata => {
                let fault = refusal(response);
                Err(Fault::new(Kind::Refused, format!("this machine has no credentials: {fault}")))
            }
            400..=599 => Err(refusal(response)),
            _ => {
                self.has_answered.fetch_or(is_metadata, Ordering::Relaxed);
                let (parts, body) = response.into_parts();
                let frames = Frames(Mutex::new(body.into_reader()));
                Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(frames)))
            }
        }
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.send(request).map_err(|fault| HttpError::new(HttpErrorKind::Unknown, Answered(fault)))
    }
}

/// Whether it is where a cloud gives its machines their credentials.
fn is_link_local(uri: &Uri) -> bool {
    uri.host().is_some_and(|host| host.starts_with("169.254."))
}

/// The bytes of a request's body.
fn collected(mut body: HttpRequestBody) -> Bytes {
    if let Some(bytes) = body.as_bytes() {
        return bytes.clone();
    }
    let mut all = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    // They are in memory.
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
        all.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    all.into()
}

/// Reads an answer's body when `object_store` asks for it.
struct Frames(Mutex<ureq::BodyReader<'static>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let mut buffer = vec![0; 128 << 10];
        let reader = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(match reader.read(&mut buffer) {
            Ok(0) => None,
            Ok(got) => {
                buffer.truncate(got);
                Some(Ok(Frame::data(buffer.into())))
            }
            Err(error) => Some(Err(HttpError::new(HttpErrorKind::Unknown, error))),
        })
    }
}

/// The body of an answer as `object_store` gives it.
struct Body<S> {
    stream: S,
    runtime: Runtime,
    rest: Bytes,
}

impl<S: Stream<Item = object_store::Result<Bytes>> + Unpin> Read for Body<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(next(&mut self.stream)) {
                None => return Ok(0),
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Err(io::Error::other(cause(&error))),
            }
        }
        let got = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..got]);
        Ok(got)
    }
}
