//! A Kubernetes API server in memory, for `kube::Client`: what the operator uses, and nothing else. What it doesn't know, it
//! answers with 501, so that a test fails instead of passing by luck.
//!
//! It is held to the real one: `crates/testbed/tests/conformance` sends the same requests to both. It is deterministic: no clock besides the
//! one that is passed in, no random numbers, nothing in the order of a hash map. It works in paused time.
//!
//! [`ApiServer`] has the connections, direct access for tests, and what can happen to a cluster: compaction, a restored backup, a
//! stale second API server, etcd down, a definition removed. A request goes through [`ApiConnection`] to `request`, which parses
//! it, and to `state`, which answers it with `read`, `write`, `delete`, `watch` or `rbac`. `store` has the objects and all their
//! changes, `rules` and `definition` what is done to an object of each kind before it is stored, and `fields` the field managers.

mod connection;
mod definition;
mod delete;
mod direct;
mod fields;
mod rbac;
mod read;
mod refusal;
mod request;
mod resources;
mod rules;
mod selector;
mod server;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod watch;
mod write;
mod write_record;

pub use self::{
    connection::{ApiConnection, ResponseBody},
    rbac::SUPERUSER,
    refusal::ApiFailure,
    request::ApiVerb,
    server::ApiServer,
    write_record::{
        AdmissionCheck, AdmissionRequest, PolicyRefusal, WriteHook, WritePhase, WriteRecord, WriteTarget,
    },
};
