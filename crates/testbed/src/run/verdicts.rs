//! The operator's verdict on each sample, next to the expected one.

use std::time::{Duration, Instant};

use kube::api::{Api, DeleteParams, DynamicObject};
use kube::{Client, ResourceExt as _};
use registry_testbed::manifests::{self, ApplyError};
use registry_testbed::samples::Overlay;
use serde_json::Value;

use crate::print_line;

const POLL: Duration = Duration::from_millis(100);

/// The `Ready` condition, as far as it is about the object's newest generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ReadyCondition {
    ready: String,
    reason: String,
    message: String,
}

impl ReadyCondition {
    fn of(object: &DynamicObject) -> Option<Self> {
        let conditions = object.data.pointer("/status/conditions")?.as_array()?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
        let current = ready["observedGeneration"].as_i64() == object.metadata.generation;
        let text = |key: &str| ready.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        current.then(|| Self { ready: text("status"), reason: text("reason"), message: text("message") })
    }

    fn is_settled(&self) -> bool {
        !self.ready.is_empty() && self.reason != "Progressing"
    }

    fn short(&self) -> String {
        format!("{}/{}", self.ready, self.reason)
    }
}

/// One sample that is given a verdict.
struct Sample {
    api: Api<DynamicObject>,
    object: DynamicObject,
    expected: String,
    verdict: ReadyCondition,
}

impl Sample {
    fn is_as_expected(&self) -> bool {
        self.verdict.short() == self.expected
    }

    async fn is_gone(&self) -> bool {
        matches!(self.api.get_opt(&self.object.name_any()).await, Ok(None))
    }

    /// The verdict, for a sentence.
    fn seen(&self) -> String {
        if self.verdict.ready.is_empty() { String::from("without a verdict") } else { self.verdict.short() }
    }

    fn cells(&self) -> [String; 8] {
        let endpoint = self.object.data.pointer("/spec/endpoint").and_then(Value::as_str).unwrap_or_default();
        [
            self.object.namespace().unwrap_or_default(),
            manifests::kind(&self.object).to_owned(),
            self.object.name_any(),
            endpoint.to_owned(),
            self.verdict.ready.clone(),
            self.verdict.reason.clone(),
            self.expected.clone(),
            self.verdict.message.clone(),
        ]
    }
}

/// The samples that are expected to get a verdict.
pub(crate) struct Verdicts {
    samples: Vec<Sample>,
    widths: [usize; 7],
}

const HEADER: [&str; 8] = ["NAMESPACE", "KIND", "NAME", "ENDPOINT", "READY", "REASON", "EXPECTED", "MESSAGE"];
/// The widest that is to be expected, `ConnectionRefused` and the like.
const LEAST_WIDTHS: [usize; 7] = [9, 4, 4, 8, 7, 17, 8];

impl Verdicts {
    /// Of the objects that a verdict is expected of.
    pub(crate) async fn of(
        client: &Client,
        objects: &[DynamicObject],
        overlay: &Overlay,
    ) -> Result<Self, ApplyError> {
        let mut samples = Vec::new();
        for object in objects {
            let Some(expected) = overlay.expected(object).map(ToOwned::to_owned) else {
                continue;
            };
            let api = manifests::api_of(client, object).await?;
            samples.push(Sample {
                api,
                object: object.clone(),
                expected,
                verdict: ReadyCondition::default(),
            });
        }
        let mut widths = LEAST_WIDTHS;
        for sample in &samples {
            for (width, cell) in widths.iter_mut().zip(sample.cells()) {
                *width = (*width).max(cell.len());
            }
        }
        Ok(Self { samples, widths })
    }

    /// Prints the column titles.
    pub(crate) fn print_header(&self) {
        self.print(&HEADER.map(str::to_owned));
    }

    /// Prints a row for each verdict that is new since the last look.
    pub(crate) async fn look(&mut self) {
        let mut changed = Vec::new();
        for sample in &mut self.samples {
            // A cluster that does not answer now, or an object that someone has deleted, is not a verdict.
            let Ok(Some(object)) = sample.api.get_opt(&sample.object.name_any()).await else {
                continue;
            };
            let verdict = ReadyCondition::of(&object).filter(ReadyCondition::is_settled);
            if let Some(verdict) = verdict.filter(|verdict| *verdict != sample.verdict) {
                sample.verdict = verdict;
                sample.object.data = object.data;
                changed.push(sample.cells());
            }
        }
        for cells in changed {
            self.print(&cells);
        }
    }

    /// Whether each has the verdict that is expected.
    pub(crate) fn are_as_expected(&self) -> bool {
        self.samples.iter().all(Sample::is_as_expected)
    }

    /// The names of the SystemRegistries.
    pub(crate) fn system_names(&self) -> Vec<String> {
        let system = self.samples.iter().filter(|sample| sample.object.namespace().is_none());
        system.map(|sample| sample.object.name_any()).collect()
    }

    /// A summary in one sentence.
    pub(crate) fn conclusion(&self, after: Duration) -> String {
        let different: Vec<String> = self
            .samples
            .iter()
            .filter(|sample| !sample.is_as_expected())
            .map(|sample| {
                format!("{} is {}, not {}", sample.object.name_any(), sample.seen(), sample.expected)
            })
            .collect();
        let total = self.samples.len();
        let seconds = after.as_secs_f32();
        if different.is_empty() {
            format!("\nAll {total} verdicts are as expected, after {seconds:.1} s.")
        } else {
            format!("\nAfter {seconds:.1} s {} of {total} differ: {}.", different.len(), different.join("; "))
        }
    }

    /// Deletes the samples, and returns the names of those that are still there in the end.
    pub(crate) async fn delete(self, patience: Duration) -> Vec<String> {
        let start = Instant::now();
        for sample in &self.samples {
            // What could not be deleted is still there, and is returned.
            let _ = sample.api.delete(&sample.object.name_any(), &DeleteParams::default()).await;
        }
        loop {
            let mut left = Vec::new();
            for sample in &self.samples {
                if !sample.is_gone().await {
                    left.push(sample.object.name_any());
                }
            }
            if left.is_empty() || start.elapsed() > patience {
                return left;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn print(&self, cells: &[String; 8]) {
        let columns = cells.iter().zip(self.widths).map(|(cell, width)| format!("{cell:width$}"));
        let columns: Vec<String> = columns.chain(cells.last().cloned()).collect();
        print_line(columns.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(observed_generation: i64, reason: &str) -> DynamicObject {
        let ready = serde_json::json!({
            "type": "Ready", "status": "True", "reason": reason, "message": "Usable.", "observedGeneration": observed_generation
        });
        let object = serde_json::json!({
            "apiVersion": "registry.spectrocloud.com/v1alpha1",
            "kind": "SystemRegistry",
            "metadata": {"name": "packs", "generation": 2},
            "status": {"conditions": [{"type": "TLSVerified", "status": "True"}, ready]},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn verdict_requires_newest_generation() {
        assert_eq!(ReadyCondition::of(&registry(1, "Available")), None);
        assert_eq!(ReadyCondition::of(&registry(2, "Available")).unwrap().short(), "True/Available");
    }

    #[test]
    fn reconciling_is_not_a_verdict() {
        assert!(!ReadyCondition::of(&registry(2, "Progressing")).unwrap().is_settled());
        assert!(ReadyCondition::of(&registry(2, "Available")).unwrap().is_settled());
    }
}
