//! An image depends only on its input.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Read as _;
use std::path::Path;

use registry_testbed::image::{self, Architecture, ImageDescription, ImageProgram, Written};
use serde_json::Value;

type Outcome = Result<(), Box<dyn Error>>;

fn describe(version: &str) -> ImageDescription {
    ImageDescription {
        version: version.to_owned(),
        revision: Some(String::from("0123abcd")),
        created: Some(String::from("2026-01-02T03:04:05Z")),
    }
}

fn make(dir: &Path, program: &str, version: &str) -> Result<Written, Box<dyn Error>> {
    make_of(ImageProgram::Operator, dir, program, version)
}

fn make_of(of: ImageProgram, dir: &Path, program: &str, version: &str) -> Result<Written, Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("program");
    std::fs::write(&path, program)?;
    let images = [Architecture::Amd64, Architecture::Arm64]
        .map(|architecture| image::with_program(of, architecture, &path, &describe(version)));
    let images = images.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(image::write(&dir.join("oci"), version, &images, image::Effort::Most)?)
}

/// The JSON blob that a descriptor names.
fn follow(layout: &Path, descriptor: &Value) -> Result<Value, Box<dyn Error>> {
    let digest = descriptor["digest"].as_str().ok_or("no digest")?;
    let hex = digest.strip_prefix("sha256:").ok_or("not SHA-256")?;
    let content = std::fs::read(layout.join("blobs/sha256").join(hex))?;
    assert_eq!(content.len() as u64, descriptor["size"], "{digest}");
    Ok(serde_json::from_slice(&content)?)
}

fn index(layout: &Path) -> Result<Value, Box<dyn Error>> {
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json"))?)?;
    follow(layout, &top["manifests"][0])
}

#[test]
fn image_build_is_reproducible() -> Outcome {
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let first = make(one.path(), "the program", "1.0.0")?;
    assert_eq!(first, make(other.path(), "the program", "1.0.0")?);
    assert_eq!(first, make(one.path(), "the program", "1.0.0")?, "written over itself");
    assert_ne!(first.digest, make(other.path(), "another program", "1.0.0")?.digest);
    assert_ne!(first.digest, make(other.path(), "the program", "1.0.1")?.digest);
    Ok(())
}

#[test]
fn index_holds_both_platforms() -> Outcome {
    let dir = tempfile::tempdir()?;
    make(dir.path(), "the program", "1.0.0")?;
    let index = index(&dir.path().join("oci"))?;
    let platforms: Vec<&Value> =
        index["manifests"].as_array().into_iter().flatten().map(|manifest| &manifest["platform"]).collect();
    assert_eq!(
        platforms,
        [
            &serde_json::json!({"os": "linux", "architecture": "amd64"}),
            &serde_json::json!({"os": "linux", "architecture": "arm64"}),
        ]
    );
    Ok(())
}

#[test]
fn runs_as_unprivileged_user_with_labels() -> Outcome {
    let dir = tempfile::tempdir()?;
    make(dir.path(), "the program", "1.0.0")?;
    let layout = dir.path().join("oci");
    let manifest = follow(&layout, &index(&layout)?["manifests"][0])?;
    let config = follow(&layout, &manifest["config"])?;
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/registry-operator"]));
    assert_eq!(config["created"], "2026-01-02T03:04:05Z");
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], "1.0.0");
    assert_eq!(labels["org.opencontainers.image.revision"], "0123abcd");
    assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
    assert_eq!(labels, &manifest["annotations"], "tools look at the one or at the other");
    Ok(())
}

/// The configuration of the image for the first platform.
fn configuration(layout: &Path) -> Result<Value, Box<dyn Error>> {
    let manifest = follow(layout, &index(layout)?["manifests"][0])?;
    Ok(follow(layout, &manifest["config"])?["config"].clone())
}

#[test]
fn console_has_an_image_of_its_own() -> Outcome {
    let dir = tempfile::tempdir()?;
    make_of(ImageProgram::Console, dir.path(), "the console", "1.0.0")?;
    let layout = dir.path().join("oci");
    let config = configuration(&layout)?;
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/registry-console"]));
    assert_eq!(config["ExposedPorts"], serde_json::json!({"8080/tcp": {}, "8443/tcp": {}}));
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "registry-console");
    let (files, _) = content(&layout)?;
    assert!(files.contains("registry-console") && !files.contains("registry-operator"), "{files:?}");
    Ok(())
}

#[test]
fn holds_program_ca_roots_and_licence_but_no_shell() -> Outcome {
    let dir = tempfile::tempdir()?;
    make(dir.path(), "the program", "1.0.0")?;
    let (files, roots) = content(&dir.path().join("oci"))?;
    let expected = [
        "etc/group",
        "etc/passwd",
        "etc/ssl/certs/ca-certificates.crt",
        "licenses/LICENSE",
        "registry-operator",
    ];
    assert_eq!(files, expected.map(str::to_owned).into());
    assert!(roots.matches("BEGIN CERTIFICATE").count() > 100, "{}", roots.len());
    Ok(())
}

/// The files of the image for the first platform, and the text of its CA roots.
fn content(layout: &Path) -> Result<(BTreeSet<String>, String), Box<dyn Error>> {
    let manifest = follow(layout, &index(layout)?["manifests"][0])?;
    let (mut files, mut roots) = (BTreeSet::new(), String::new());
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let hex = layer["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
        let file = std::fs::File::open(layout.join("blobs/sha256").join(hex))?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.display().to_string();
            let header = entry.header().clone();
            assert_eq!((header.uid()?, header.gid()?, header.mtime()?), (0, 0, 0), "{path}");
            assert_eq!(header.mode()? & 0o022, 0, "{path} can be written by others than root");
            if path == "etc/ssl/certs/ca-certificates.crt" {
                entry.read_to_string(&mut roots)?;
            }
            if header.entry_type().is_file() {
                files.insert(path);
            }
        }
    }
    Ok((files, roots))
}
