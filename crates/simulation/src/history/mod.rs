//! Histories: what users do, what registries do, and what goes wrong, each at its time.
//!
//! Every step is harmless where it doesn't apply (an edit of a registry that doesn't exist does nothing), so that any part of a history
//! is a history.
//!
//! - [`coincidence`]: events that hit each other.
//! - [`generate`]: a history by seed.
//! - [`shorten`]: the shortest history that still fails.

pub mod coincidence;
pub mod generate;
pub mod shorten;

use std::{fmt, time::Duration};

use crate::{
    registries::behaviour::{ServerCondition, SignInMethod},
    wire::fate::{KillPoint, NextWrites},
};

/// A history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SimulatedHistory {
    /// The seed of everything that is random while it runs.
    pub seed: u64,
    /// The number of replicas, one or two.
    pub replicas: usize,
    /// What happens, in order.
    pub events: Vec<TimedEvent>,
    /// How long events happen. Then, all faults end.
    pub active: Duration,
    /// How long nothing happens afterwards.
    pub calm: Duration,
    /// Whether users request a validation of every registry when the calm begins. Otherwise, the operator must notice by itself.
    pub asks: bool,
}

/// An event and its time since the history began.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TimedEvent {
    /// When.
    pub at: Duration,
    /// What.
    pub event: HistoryEvent,
}

/// Something that happens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HistoryEvent {
    /// A user or a registry does something.
    Step(UserStep),
    /// Something goes wrong.
    Fault(InjectedFault),
}

/// What users do, and what registries do. A registry is named by its number in [`crate::cast::REGISTRIES`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UserStep {
    /// Creates a registry, with or without a pull Secret.
    Create(usize, bool),
    /// Deletes a registry.
    Delete(usize),
    /// Deletes a registry and creates it again under its name for another host, as soon as it is gone.
    Recreate(usize, usize),
    /// Points a registry at another host, by number.
    Move(usize, usize),
    /// Lets a registry use its Secret, or none.
    UseSecret(usize, bool),
    /// Adds the pull Secret to a registry, or removes it.
    PullSecret(usize, bool),
    /// Suspends a registry, or resumes it.
    Suspend(usize, bool),
    /// Requests a validation.
    Request(usize),
    /// Changes an annotation of a registry that means nothing.
    Touch(usize),
    /// Writes the registry's Secret with the password of this number.
    WriteSecret(usize, u8),
    /// Writes the registry's Secret with a type that isn't allowed.
    SpoilSecret(usize),
    /// Changes nothing but an annotation of the registry's Secret.
    TouchSecret(usize),
    /// Deletes the registry's Secret.
    DeleteSecret(usize),
    /// Deletes the registry's pull Secrets.
    DeletePullSecrets(usize),
    /// Lets a host answer otherwise.
    Answer(usize, ServerCondition),
    /// Lets a host accept the password of this number.
    Accept(usize, u8),
    /// Lets a host want another way to sign in.
    SignIn(usize, SignInMethod),
    /// Labels a namespace as the tenant's, or removes the label.
    Label(usize, bool),
    /// Labels a namespace as the tenant's of the second one.
    Relabel(usize, usize),
    /// Another client overwrites the registry's status.
    OverwriteStatus(usize),
    /// Another client overwrites the content of the registry's pull Secret in a namespace (second).
    OverwritePullSecret(usize, usize),
    /// A user creates a Secret with the name of the registry's pull Secret in a namespace (second).
    ForeignSecret(usize, usize),
    /// Deletes a namespace.
    DeleteNamespace(usize),
    /// Creates a namespace that doesn't exist, with its tenant's label.
    CreateNamespace(usize),
    /// Compacts the API server's store: watches from older versions are answered with 410.
    Compact,
    /// Stores a registry that can't be decoded, as an older version may have.
    StoreUndecodable,
    /// Sets the API server's store back to its state so long ago.
    Restore(Duration),
}

/// What goes wrong. The first number is that of the replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InjectedFault {
    /// Of a hundred requests, so many fail, for so long.
    Failing(usize, u64, Duration),
    /// The API server doesn't answer, for so long.
    Frozen(usize, Duration),
    /// Writes of the status are refused, for so long.
    StatusForbidden(usize, Duration),
    /// All watches end.
    CutWatches(usize),
    /// The watches are silent for so long, and end then.
    Blackholed(usize, Duration),
    /// Each message takes up to so long (first), for so long (second).
    Slow(usize, Duration, Duration),
    /// The next writes of a kind are applied, but their answers are lost.
    LostReplies(usize, NextWrites),
    /// The next writes of a kind arrive late.
    LateWrites(usize, NextWrites, Duration),
    /// The replica is killed, and started again after so long.
    Kill(usize, Duration),
    /// The replica is killed at a write, and started again after so long.
    KillAt(usize, KillPoint, Duration),
    /// The replica ends by itself (SIGTERM), and starts again after so long.
    Stop(usize, Duration),
    /// The operator's clock jumps by so many seconds.
    Jump(i64),
    /// The replica is connected to an API server whose cache is so far behind, for so long.
    Stale(usize, Duration),
}

impl HistoryEvent {
    /// Returns for how long the operator may be late, or know less, because of it; none if it disturbs nothing. Faults of single
    /// requests disturb when a request meets them, which the log of requests shows.
    pub fn disturbs_for(&self) -> Option<Duration> {
        use InjectedFault as F;
        match self {
            Self::Step(UserStep::Restore(_)) => Some(Duration::ZERO),
            Self::Step(_) => None,
            Self::Fault(fault) => match *fault {
                F::Frozen(_, long)
                | F::Blackholed(_, long)
                | F::Slow(_, _, long)
                | F::Kill(_, long)
                | F::Stop(_, long)
                | F::Stale(_, long) => Some(long),
                F::CutWatches(_) | F::Jump(_) => Some(Duration::ZERO),
                F::Failing(..)
                | F::StatusForbidden(..)
                | F::LostReplies(..)
                | F::LateWrites(..)
                | F::KillAt(..) => None,
            },
        }
    }
}

impl SimulatedHistory {
    /// Returns the same history without faults.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        let is_step = |event: &&TimedEvent| matches!(event.event, HistoryEvent::Step(_));
        Self { events: self.events.iter().filter(is_step).cloned().collect(), ..self.clone() }
    }

    /// Returns whether anything goes wrong in it.
    pub fn has_faults(&self) -> bool {
        self.events.iter().any(|event| matches!(event.event, HistoryEvent::Fault(_)))
    }
}

impl fmt::Display for SimulatedHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, replicas, active, calm, asks, .. } = self;
        writeln!(
            f,
            "SEED={seed}, {replicas} replicas, {active:?} of events, {calm:?} of calm, asks: {asks}"
        )?;
        for TimedEvent { at, event } in &self.events {
            match event {
                HistoryEvent::Step(step) => writeln!(f, "  {:8.3} s  {step:?}", at.as_secs_f64())?,
                HistoryEvent::Fault(fault) => writeln!(f, "  {:8.3} s  ! {fault:?}", at.as_secs_f64())?,
            }
        }
        Ok(())
    }
}
