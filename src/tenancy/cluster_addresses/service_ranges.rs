//! Learns the address ranges of Services from Kubernetes before 1.33, whose API doesn't expose them. The API server
//! refuses a dry run of a Service with an address outside the range, and its message contains the range. There is one
//! dry run for each address family, with an address that no cluster uses.
//!
//! Every network in the message counts as a range. If the message changes in a future version, nothing is learned and
//! the operator reports that; newer versions have the API.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::Status,
};
use registry_probe::IpNet;
use serde_json::json;
use tokio::time::timeout;

/// The name of the Service in the dry run. A Role of the chart allows creating a Service with this name, and a policy
/// allows only a dry run.
pub const NAME: &str = "registry-operator-service-range";
const FIELD_MANAGER: &str = "registry-operator-service-range";
const ANSWER: Duration = Duration::from_secs(10);
/// Addresses that are reserved for documentation (RFC 5737, RFC 3849).
const OUTSIDE: [(&str, &str); 2] = [("IPv4", "198.51.100.1"), ("IPv6", "2001:db8::1")];

/// Returns the ranges that the API server's refusals contain; empty if there are none.
pub(super) async fn by_refusal(client: &Client, namespace: &str) -> Vec<IpNet> {
    let mut ranges = Vec::new();
    for outside in OUTSIDE {
        ranges.extend(ask(client, namespace, outside).await);
    }
    ranges
}

async fn ask(client: &Client, namespace: &str, (family, address): (&str, &str)) -> Option<IpNet> {
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {
            "clusterIP": address, "ipFamilies": [family], "ipFamilyPolicy": "SingleStack", "ports": [{"port": 443}],
        },
    });
    let params = PatchParams { dry_run: true, ..PatchParams::apply(FIELD_MANAGER).force() };
    match timeout(ANSWER, api.patch(NAME, &params, &Patch::Apply(service))).await {
        Ok(Err(kube::Error::Api(status))) => range(&status),
        _ => None,
    }
}

fn range(status: &Status) -> Option<IpNet> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let named =
        causes.filter(|cause| cause.field.starts_with("spec.clusterIP")).map(|cause| cause.message.as_str());
    let mut words = named.flat_map(|message| message.split_whitespace());
    words.find_map(|word| word.trim_matches(|c: char| !c.is_ascii_hexdigit() && c != ':').parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn refused(field: &str, message: &str) -> Status {
        let causes: Value = json!([{"reason": "FieldValueInvalid", "message": message, "field": field}]);
        serde_json::from_value(json!({"code": 422, "reason": "Invalid", "details": {"causes": causes}}))
            .unwrap()
    }

    #[test]
    fn parses_range_from_the_refusal() {
        let says = "Invalid value: [\"198.51.100.1\"]: failed to allocate IP 198.51.100.1: the provided IP (198.51.100.1) is not \
                    in the valid range. The range of valid IPs is ";
        for net in ["10.96.0.0/12", "fd00:10:96::/112"] {
            let status = refused("spec.clusterIPs", &format!("{says}{net}"));
            assert_eq!(range(&status), Some(net.parse().unwrap()));
        }
        assert_eq!(range(&refused("spec.clusterIPs", "Invalid value: 198.51.100.1")), None);
        assert_eq!(range(&refused("spec.ipFamilies[0]", "IPv6 is not configured, 10.0.0.0/8")), None);
    }
}
