//! The OCI image layout: blobs by digest, and an index over the platforms.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::layer::gzip;
use super::{Architecture, Effort, ImageError, ImageLayer};
use crate::tools::sha256_hex;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it runs on.
    pub architecture: Architecture,
    /// From the lowest to the highest.
    pub layers: Vec<ImageLayer>,
    /// `user:group`, by number.
    pub user: String,
    /// What is run.
    pub entrypoint: Vec<String>,
    /// Ports that it listens on, such as `8080/tcp`.
    pub ports: Vec<String>,
    /// Labels of the configuration, and annotations of manifest and index.
    pub labels: BTreeMap<String, String>,
    /// RFC 3339; the time of the sources, not of the build.
    pub created: Option<String>,
}

impl Image {
    /// Writes the files of all layers below a directory, in place of what is there.
    pub fn write_root(&self, dir: &Path) -> Result<(), ImageError> {
        if dir.exists() {
            std::fs::remove_dir_all(dir).map_err(ImageError::at("remove", dir))?;
        }
        for layer in &self.layers {
            let archive = layer.tar().map_err(ImageError::at("pack a layer for", dir))?;
            tar::Archive::new(&archive[..]).unpack(dir).map_err(ImageError::at("unpack into", dir))?;
        }
        Ok(())
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The digest of the index over the platforms: what an image reference can be pinned to.
    pub digest: String,
    /// For each platform the bytes of its manifest, configuration and layers: what is pulled.
    pub sizes: Vec<(Architecture, u64)>,
}

/// Writes a layout with one image for several platforms, in place of what is there; `tag` is its name in the layout.
pub fn write(dir: &Path, tag: &str, images: &[Image], effort: Effort) -> Result<Written, ImageError> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(ImageError::at("remove", dir))?;
    }
    let blobs = Blobs::new(dir)?;
    let (mut manifests, mut sizes) = (Vec::new(), Vec::new());
    for image in images {
        let (manifest, size) = blobs.image(image, effort)?;
        manifests.push(manifest);
        sizes.push((image.architecture, size));
    }
    let annotations = images.first().map(|image| &image.labels);
    let mut named = blobs.json(INDEX, &index(&manifests, annotations))?;
    let digest = named["digest"].as_str().unwrap_or_default().to_owned();
    named["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    put(&dir.join("index.json"), index(&[named], None).to_string().as_bytes())?;
    put(&dir.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    Ok(Written { digest, sizes })
}

fn index(manifests: &[Value], annotations: Option<&BTreeMap<String, String>>) -> Value {
    let mut index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    if let Some(annotations) = annotations {
        index["annotations"] = json!(annotations);
    }
    index
}

fn put(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    std::fs::write(path, content).map_err(ImageError::at("write", path))
}

/// Where content lies by its digest.
struct Blobs(PathBuf);

impl Blobs {
    fn new(layout: &Path) -> Result<Self, ImageError> {
        let dir = layout.join("blobs/sha256");
        std::fs::create_dir_all(&dir).map_err(ImageError::at("create", &dir))?;
        Ok(Self(dir))
    }

    /// Writes content and returns its descriptor.
    fn blob(&self, media_type: &str, content: &[u8]) -> Result<Value, ImageError> {
        let hex = sha256_hex(content);
        put(&self.0.join(&hex), content)?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": content.len()}))
    }

    fn json(&self, media_type: &str, content: &Value) -> Result<Value, ImageError> {
        self.blob(media_type, content.to_string().as_bytes())
    }

    /// Writes an image; returns its manifest's descriptor and the total size.
    fn image(&self, image: &Image, effort: Effort) -> Result<(Value, u64), ImageError> {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in &image.layers {
            let archive = layer.tar().map_err(ImageError::at("pack a layer of", &self.0))?;
            diff_ids.push(format!("sha256:{}", sha256_hex(&archive)));
            let compressed =
                gzip(&archive, effort).map_err(ImageError::at("compress a layer of", &self.0))?;
            layers.push(self.blob(LAYER, &compressed)?);
        }
        let config = self.json(CONFIG, &config(image, &diff_ids))?;
        let sizes = layers.iter().chain([&config]).filter_map(|blob| blob["size"].as_u64()).sum::<u64>();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, "annotations": image.labels,
        });
        let mut manifest = self.json(MANIFEST, &manifest)?;
        let size = sizes + manifest["size"].as_u64().unwrap_or_default();
        manifest["platform"] = json!({"architecture": image.architecture.name(), "os": "linux"});
        Ok((manifest, size))
    }
}

fn config(image: &Image, diff_ids: &[String]) -> Value {
    let ports: BTreeMap<&str, Value> = image.ports.iter().map(|port| (port.as_str(), json!({}))).collect();
    let dated = |mut value: Value| {
        if let Some(created) = &image.created {
            value["created"] = json!(created);
        }
        value
    };
    let history = image.layers.iter().map(|layer| dated(json!({"created_by": layer.created_by})));
    let history: Vec<Value> = history.collect();
    let run = json!({
        "User": image.user, "Entrypoint": image.entrypoint, "WorkingDir": "/", "Labels": image.labels, "ExposedPorts": ports,
    });
    dated(json!({
        "architecture": image.architecture.name(),
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    }))
}
