//! Pushing a minimal artifact to a registry.

use http::{Method, StatusCode, header};

use crate::http_client::Call;
use crate::registry::RegistryError;
use crate::tools::sha256_hex;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The target of a push, with credentials.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Push<'a> {
    /// The registry's URL, without a trailing slash.
    pub url: &'a str,
    /// The value of the header `Authorization`.
    pub authorization: Option<&'a str>,
    /// What the server's certificate is verified with (PEM).
    pub ca_pem: Option<&'a str>,
}

impl Push<'_> {
    /// Pushes a minimal artifact as `repository:tag`; returns its digest.
    pub(crate) async fn artifact(&self, repository: &str, tag: &str) -> Result<String, RegistryError> {
        let config = self.blob(repository, b"{}").await?;
        let layer = self.blob(repository, format!("{repository}:{tag}\n").as_bytes()).await?;
        let manifest = manifest(&config, &layer);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let put = self.call(Method::PUT, &path).header(header::CONTENT_TYPE, MANIFEST).body(manifest.clone());
        expect(StatusCode::CREATED, put, Method::PUT, &path).await?;
        Ok(digest(manifest.as_bytes()))
    }

    async fn blob(&self, repository: &str, content: &[u8]) -> Result<Descriptor, RegistryError> {
        let digest = digest(content);
        let start = format!("/v2/{repository}/blobs/uploads/");
        let begun =
            expect(StatusCode::ACCEPTED, self.call(Method::POST, &start), Method::POST, &start).await?;
        let location = begun.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.unwrap_or_default();
        // Absolute or not; and a registry behind a proxy may take itself to be elsewhere.
        let path = location.find("/v2/").map_or(location, |at| &location[at..]);
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{joint}digest={digest}");
        let put = self.call(Method::PUT, &path).body(content.to_vec());
        expect(StatusCode::CREATED, put, Method::PUT, &path).await?;
        Ok(Descriptor { digest, size: content.len() })
    }

    fn call(&self, method: Method, path: &str) -> Call<'_> {
        let mut call = Call::new(method, format!("{}{path}", self.url));
        if let Some(ca_pem) = self.ca_pem {
            call = call.trust(ca_pem);
        }
        if let Some(authorization) = self.authorization {
            call = call.header(header::AUTHORIZATION, authorization);
        }
        call
    }
}

async fn expect(
    status: StatusCode,
    call: Call<'_>,
    method: Method,
    path: &str,
) -> Result<http::Response<bytes::Bytes>, RegistryError> {
    let answer = call.send().await?;
    if answer.status() == status {
        return Ok(answer);
    }
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    Err(RegistryError::Refused { method, path: path.to_owned(), status: answer.status(), body })
}

struct Descriptor {
    digest: String,
    size: usize,
}

fn manifest(config: &Descriptor, layer: &Descriptor) -> String {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.spectrocloud.testbed",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": "text/plain", "digest": layer.digest, "size": layer.size}],
    })
    .to_string()
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(content))
}
