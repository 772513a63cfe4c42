//! How the operator talks to the Kubernetes API server: calls with one deadline, one meaning for each refusal and one back-off.
//! Owns what an answer means; what is done about it is the caller's.

pub mod call;
pub mod config;
