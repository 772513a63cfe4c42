//! The content of an image: one program, the public CA roots, the licence. No shell, no libraries, no other files.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Architecture, Image, ImageError, ImageLayer, ImageProgram, LayerEntry};
use crate::tools::repository;

/// By number, so that `runAsNonRoot` can be checked.
const USER: &str = "65532:65532";

/// The labels of an image.
#[derive(Debug, Clone, Default)]
pub struct ImageDescription {
    /// The programs' version.
    pub version: String,
    /// The commit that it was built from.
    pub revision: Option<String>,
    /// The commit's time, RFC 3339.
    pub created: Option<String>,
}

/// The image of a program. `file` is the static program.
pub fn with_program(
    program: ImageProgram,
    architecture: Architecture,
    file: &Path,
    description: &ImageDescription,
) -> Result<Image, ImageError> {
    let content = std::fs::read(file).map_err(ImageError::at("read", file))?;
    let licence = repository().join("LICENSE");
    let licence = std::fs::read(&licence).map_err(ImageError::at("read", &licence))?;
    let name = program.name();
    Ok(Image {
        architecture,
        layers: vec![
            ground(licence),
            ImageLayer {
                created_by: String::from("the program"),
                entries: vec![LayerEntry::program(name, content)],
            },
        ],
        user: USER.to_owned(),
        entrypoint: vec![format!("/{name}")],
        ports: program.ports().iter().map(|port| format!("{port}/tcp")).collect(),
        labels: labels(program, description),
        created: description.created.clone(),
    })
}

/// The layer with what seldom changes, which is pulled once.
fn ground(licence: Vec<u8>) -> ImageLayer {
    ImageLayer {
        created_by: String::from("public roots (Mozilla's, by webpki-root-certs) and licence"),
        entries: vec![
            LayerEntry::directory("etc"),
            LayerEntry::file("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
            LayerEntry::file(
                "etc/passwd",
                "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n",
            ),
            LayerEntry::directory("etc/ssl"),
            LayerEntry::directory("etc/ssl/certs"),
            // Where the AWS SDK, like most programs, looks for the platform's roots. Registries are verified with the
            // same roots, compiled into the program.
            LayerEntry::file("etc/ssl/certs/ca-certificates.crt", roots()),
            LayerEntry::directory("licenses"),
            LayerEntry::file("licenses/LICENSE", licence),
        ],
    }
}

fn roots() -> String {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|root| pem(root)).collect()
}

fn pem(certificate: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(certificate);
    let lines: Vec<String> =
        encoded.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn labels(program: ImageProgram, description: &ImageDescription) -> BTreeMap<String, String> {
    let known = [
        ("title", Some(program.name().to_owned())),
        ("description", Some(program.description().to_owned())),
        ("licenses", Some(String::from("Apache-2.0"))),
        ("version", Some(description.version.clone())),
        ("revision", description.revision.clone()),
        ("created", description.created.clone()),
    ];
    let said = known
        .into_iter()
        .filter_map(|(key, value)| Some((format!("org.opencontainers.image.{key}"), value?)));
    said.collect()
}
