//! AWS as moto emulates it: ECR, STS and IAM over HTTP, for tests and for `make run`.
//!
//! A Python program, pinned by `tests/tools/moto/requirements.txt`, installed on first use. Needs `python3` and a package
//! index.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, header};

use crate::component::{Component, ComponentError, Readiness};
use crate::http_client::{Call, HttpError};
use crate::ports::{Port, PortError};
use crate::process::{ProcessSpec, Scratch};
use crate::python::{self, PythonError};

const READY: Duration = Duration::from_mins(2);
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no emulator.
#[derive(Debug, thiserror::Error)]
pub enum MotoError {
    /// It is not installed, and can't be.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its directory cannot be used.
    #[error("cannot use moto's directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// It does not come up.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// It does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Its IAM does not do what it was asked to.
    #[error("moto's IAM refuses {action}: {answer}")]
    Refused {
        /// What was asked for.
        action: String,
        /// Its answer.
        answer: String,
    },
}

/// An AWS access key.
#[derive(Debug, Clone)]
pub struct AccessKey {
    /// The key's id.
    pub id: String,
    /// The key.
    pub secret: String,
}

/// A running emulator.
#[derive(Debug)]
pub struct Moto {
    component: Component,
    address: Ipv4Addr,
    port: Port,
    _scratch: Scratch,
}

impl Moto {
    /// Installs it if it isn't yet.
    pub fn install() -> Result<PathBuf, MotoError> {
        Ok(python::environment("moto")?)
    }

    /// Installs it if it isn't yet, starts it and waits until it answers.
    pub async fn start() -> Result<Self, MotoError> {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// The same, for others who reach it at this address of the machine.
    pub async fn start_at(address: Ipv4Addr) -> Result<Self, MotoError> {
        let installed = tokio::task::spawn_blocking(Self::install).await;
        let environment = installed.map_err(|error| MotoError::Scratch(std::io::Error::other(error)))??;
        let (scratch, port) = (Scratch::new("testbed-moto")?, Port::reserve()?);
        // Not bin/moto_server, whose first line holds the path at which the environment was made.
        let spec = ProcessSpec::new("moto", environment.join("bin/python"), scratch.path().join("moto.log"))
            .args(["-m", "moto.server", "-H", &address.to_string(), "-p", &port.number().to_string()]);
        let readiness =
            Readiness::http(format!("http://{address}:{}/moto-api/data.json", port.number()), READY);
        let component = Component::new(spec, readiness, GRACE);
        component.start().await?;
        Ok(Self { component, address, port, _scratch: scratch })
    }

    /// Whether there is a Python to run it.
    pub fn is_possible() -> bool {
        python::is_there()
    }

    /// Calls an IAM action, before credentials are checked.
    pub async fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> Result<String, MotoError> {
        // Unsigned: the scope alone says which API is meant.
        let scope = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x";
        let call = Call::new(Method::POST, format!("{}/", self.url()))
            .header(header::AUTHORIZATION, scope)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(&[&[("Action", action), ("Version", "2010-05-08")], parameters].concat()));
        let answer = call.send().await?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        if answer.status().is_success() {
            return Ok(text);
        }
        Err(MotoError::Refused { action: action.to_owned(), answer: text })
    }

    /// Makes a user with that policy, and a key for it.
    pub async fn user(&self, name: &str, policy: &str) -> Result<AccessKey, MotoError> {
        let user = ("UserName", name);
        self.iam("CreateUser", &[user]).await?;
        self.iam("PutUserPolicy", &[user, ("PolicyName", name), ("PolicyDocument", policy)]).await?;
        let action = "CreateAccessKey";
        let answer = self.iam(action, &[user]).await?;
        let element = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>"))?;
            rest.split_once('<').map(|(value, _)| value.to_owned())
        };
        let key = element("AccessKeyId").zip(element("SecretAccessKey"));
        key.map(|(id, secret)| AccessKey { id, secret })
            .ok_or_else(|| MotoError::Refused { action: action.to_owned(), answer: answer.clone() })
    }

    /// Makes a role with that trust policy, which may do what that policy says.
    pub async fn role(&self, name: &str, trust: &str, policy: &str) -> Result<(), MotoError> {
        let role = ("RoleName", name);
        self.iam("CreateRole", &[role, ("AssumeRolePolicyDocument", trust)]).await?;
        self.iam("PutRolePolicy", &[role, ("PolicyName", name), ("PolicyDocument", policy)]).await?;
        Ok(())
    }

    /// Enables the check of signatures and policies.
    pub async fn checks_credentials(&self) -> Result<(), MotoError> {
        Call::new(Method::POST, format!("{}/moto-api/reset-auth", self.url())).body("0").send().await?;
        Ok(())
    }

    /// Its endpoint, for all of AWS's APIs.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.address, self.port.number())
    }

    /// The server: stop, start, pause, log.
    pub fn component(&self) -> &Component {
        &self.component
    }
}

/// As application/x-www-form-urlencoded.
fn form(parameters: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in parameters {
        let _ = write!(form, "{name}=");
        for byte in value.bytes() {
            let _ = write!(form, "%{byte:02X}");
        }
        form.push('&');
    }
    form
}
