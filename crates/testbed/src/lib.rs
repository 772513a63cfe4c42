//! A real control plane and real registries, for the tests and for `make run`: no container engine, no cluster, nothing
//! left behind.
//!
//! Everything listens on loopback, at free ports, so any number of testbeds run side by side; every process ends with
//! the program that started it, however that ends. The library knows nothing of the operator's resources; `make run`, which is
//! the program `testbed run` of this crate, does.

pub mod audit;
pub mod axe;
pub mod chromium;
pub mod component;
pub mod console;
pub mod control_plane;
pub mod debian;
pub mod eventually;
pub mod forward_proxy;
pub mod http_client;
pub mod image;
mod kubeconfig;
pub mod manifests;
pub mod moto;
pub mod name_server;
pub mod node;
pub mod operator;
pub mod pki;
pub mod policies;
pub mod ports;
pub mod process;
mod push;
pub mod python;
pub mod registry;
pub mod samples;
pub mod servers;
pub mod tools;

pub use audit::{AuditEvent, AuditLog, AuditMark};
pub use chromium::{Chromium, ChromiumError, WebElement};
pub use component::Component;
pub use console::{ConsoleProcess, ConsoleProcessError};
pub use control_plane::{ControlPlane, ControlPlaneOptions, Kubernetes};
pub use eventually::{NotYet, eventually};
pub use forward_proxy::ForwardProxy;
pub use moto::Moto;
pub use name_server::{NameServer, NameServerOptions};
pub use operator::{Operator, OperatorOptions};
pub use pki::{Leaf, LeafOptions, TestCa};
pub use policies::policies_are_in_force;
pub use registry::{RegistryAuth, RegistryOptions, RegistryTls, TestRegistry};
pub use tools::in_repository;
