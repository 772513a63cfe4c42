//! The operator's environment: the samples, the registries that they name, and an emulated AWS, reachable from Pods.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject},
};
use registry_api::spec::TenantRegistry;
pub use registry_testbed::samples::{PASSWORD, USER};
use registry_testbed::{
    LeafOptions, Moto, RegistryAuth, RegistryOptions, RegistryTls, TestCa, TestRegistry, eventually,
    manifests,
    node::SECOND_ADDRESS,
    ports::Port,
    samples::{self, Overlay},
};
use serde_json::{Value, json};

use crate::say;

/// The content of moto's tokens, which is the same for all users.
const AWS_USER: &str = "AWS";
const AWS_PASSWORD: &str = "123456789012-auth-token";

/// Registries at an address that Pods reach, and the samples that name them.
pub struct Environment {
    pub protected: TestRegistry,
    anonymous: TestRegistry,
    aws: Option<Aws>,
    down: Port,
    pub ca: TestCa,
}

/// An emulated AWS, and a registry that takes its tokens.
struct Aws {
    api: Moto,
    registry: TestRegistry,
}

impl Aws {
    async fn start(tls: RegistryTls) -> Result<Option<Self>> {
        let api = match Moto::start_at(SECOND_ADDRESS).await {
            Ok(api) => api,
            Err(error) => {
                say(&format!("left out: AWS, whose emulator does not come up: {error}"));
                return Ok(None);
            }
        };
        let auth = RegistryAuth::htpasswd(AWS_USER, AWS_PASSWORD);
        let registry = TestRegistry::start_at(SECOND_ADDRESS, RegistryOptions { auth, tls }).await?;
        registry.push_artifact("team/packs/hello", "1.0.0").await?;
        Ok(Some(Self { api, registry }))
    }
}

impl Environment {
    pub async fn set() -> Result<Self> {
        let ca = TestCa::new("Example Company Private CA")?;
        let mut names = LeafOptions::server("registry");
        names.ips.push(SECOND_ADDRESS.into());
        let tls = RegistryTls::Server {
            leaf: ca.issue(&names)?,
            ca_pem: ca.certificate_pem().to_owned(),
            client_ca_pem: None,
        };
        let aws = Aws::start(tls.clone()).await?;
        let auth = RegistryAuth::htpasswd(USER, PASSWORD);
        let protected = TestRegistry::start_at(SECOND_ADDRESS, RegistryOptions { auth, tls }).await?;
        let anonymous = TestRegistry::start_at(SECOND_ADDRESS, RegistryOptions::default()).await?;
        protected.push_artifact("team/packs/hello", "1.0.0").await?;
        protected.push_artifact("team-a/charts/hello", "1.0.0").await?;
        anonymous.push_artifact("public/hello", "1.0.0").await?;
        Ok(Self { protected, anonymous, aws, down: Port::reserve()?, ca })
    }

    /// Where the operator finds AWS.
    pub fn variables(&self) -> Value {
        let Some(aws) = &self.aws else { return json!([]) };
        let names = ["AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL_STS"];
        json!(names.map(|name| json!({"name": name, "value": aws.api.url()})))
    }

    /// What stands in for the samples' hosts.
    pub fn overlay(&self) -> Overlay {
        Overlay {
            protected: self.protected.host_port(),
            anonymous: self.anonymous.host_port(),
            down: format!("{SECOND_ADDRESS}:{}", self.down.number()),
            ecr: self.aws.as_ref().map(|aws| aws.registry.host_port()),
            ca_pem: self.ca.certificate_pem().to_owned(),
        }
    }

    /// `config/samples`, at the registries here.
    pub fn samples(&self) -> Result<Vec<DynamicObject>> {
        Ok(self.overlay().apply(&samples::directory())?)
    }
}

/// The registries among the samples, with the verdict that each is to get.
pub struct Verdicts(Vec<(Api<DynamicObject>, String, String)>);

impl Verdicts {
    /// Waits until the API server knows what a registry is.
    pub async fn expected(client: &Client, samples: &[DynamicObject], overlay: &Overlay) -> Result<Self> {
        let mut expected = Vec::new();
        for sample in samples {
            if let Some(verdict) = overlay.expected(sample) {
                let api = manifests::api_of(client, sample).await?;
                expected.push((api, sample.name_any(), verdict.to_owned()));
            }
        }
        Ok(Self(expected))
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until any registry is found usable or not.
    pub async fn first(&self) -> Result<()> {
        let first = eventually("a first verdict", || async {
            let seen = self.seen().await.map_err(|error| error.to_string())?;
            let settled =
                seen.values().any(|verdict| !verdict.is_empty() && !verdict.ends_with("/Progressing"));
            if settled { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        Ok(first.await?)
    }

    /// Waits until each has the verdict that it is to get.
    pub async fn all(&self) -> Result<()> {
        let all = eventually("the verdicts that are expected of the samples", || async {
            self.hold().await.map_err(|error| error.to_string())
        });
        Ok(all.await?)
    }

    /// Whether each has it now.
    pub async fn hold(&self) -> Result<()> {
        let seen = self.seen().await?;
        for (_, name, expected) in &self.0 {
            if seen.get(name) != Some(expected) {
                bail!("{name} is {:?}, not {expected}", seen.get(name));
            }
        }
        Ok(())
    }

    /// Deletes the registries, and waits until they are gone.
    pub async fn delete(&self) -> Result<()> {
        for (api, name, _) in &self.0 {
            api.delete(name, &DeleteParams::default()).await?;
        }
        let gone = eventually("the registries are gone", || async {
            let left = self.seen().await.map_err(|error| error.to_string())?;
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        Ok(gone.await?)
    }

    /// `<Ready>/<reason>` by name; empty where there is none yet.
    async fn seen(&self) -> Result<BTreeMap<String, String>> {
        let mut seen = BTreeMap::new();
        for (api, name, _) in &self.0 {
            if let Some(object) = api.get_opt(name).await? {
                seen.insert(name.clone(), verdict(&object));
            }
        }
        Ok(seen)
    }
}

/// What a TenantRegistry's `Ready` says now.
pub async fn verdict_of(client: &Client, namespace: &str, name: &str) -> Result<String> {
    let api: Api<TenantRegistry> = Api::namespaced(client.clone(), namespace);
    let object = serde_json::to_value(api.get(name).await?)?;
    Ok(verdict(&serde_json::from_value(object)?))
}

fn verdict(object: &DynamicObject) -> String {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let text = |ready: &Value, key: &str| ready[key].as_str().unwrap_or_default().to_owned();
    ready.map(|ready| format!("{}/{}", text(ready, "status"), text(ready, "reason"))).unwrap_or_default()
}
