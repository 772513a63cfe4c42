//! How the operator talks to the Kubernetes API server: calls with one deadline, one meaning for each refusal and one back-off,
//! and watches over shared connections. Owns what an answer means; what is done about it is the caller's.
//!
//! - [`account`] and [`self_subject`]: whether it runs as the account that the policies know.
//! - [`call`]: how long a call may take, and what a refusal means.
//! - [`client`]: clients whose writes are held to the term of leadership.
//! - [`guard`]: whether the admission policies are in force.
//! - [`http2`]: connections that many watches share.
//! - [`lease`]: which replica is the leader.
//! - [`term`] and [`write_gate`]: how long this replica may write, and what holds back its writes afterwards.
//! - [`watches`]: every watch: list, resume, renew, back off.
//! - [`store`]: whether the API server's store was set back.

pub mod account;
pub mod call;
pub mod client;
pub mod guard;
pub mod http2;
pub mod lease;
pub mod self_subject;
pub mod store;
pub mod term;
pub mod watches;
pub mod write_gate;
