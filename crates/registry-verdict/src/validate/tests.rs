//! From specs to what is probed.

use std::{net::IpAddr, time::Duration};

use registry_api::{RegistrySpec, SystemRegistry, TenantRegistry};
use serde_json::{Value, json};

use super::*;

fn spec(more: &Value) -> RegistrySpec {
    let mut spec = json!({"endpoint": "https://registry.example.com"});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn system(more: &Value) -> RegistryObject {
    RegistryObject::of(SystemRegistry::new("packs", spec(more)))
}

fn tenants(more: &Value) -> RegistryObject {
    let mut registry = TenantRegistry::new("packs", spec(more));
    registry.metadata.namespace = Some("team-a".into());
    RegistryObject::of(registry)
}

fn admin_policy() -> AdminPolicy {
    AdminPolicy {
        egress_allow: Arc::from([]),
        egress_deny: Arc::from(["203.0.113.0/24".parse().unwrap()]),
        cluster_addresses: ClusterAddresses::new(["10.96.0.1/32".parse().unwrap()]),
        trusted_token_services: Arc::from(["auth.example.net".parse().unwrap()]),
    }
}

fn checked(object: &RegistryObject) -> Result<Target, SpecError> {
    probe_target(object, &admin_policy())
}

#[test]
fn probe_target_follows_the_spec() {
    let more = json!({
        "baseContentPath": "team/packs",
        "tls": {"insecureSkipVerify": true},
        "validation": {"timeout": "7s", "repository": "hello"},
    });
    let target = checked(&system(&more)).unwrap();
    assert_eq!(target.endpoint.to_string(), "https://registry.example.com");
    assert_eq!(target.base_path.unwrap().as_str(), "team/packs");
    assert_eq!(target.repository.unwrap().as_str(), "hello");
    assert_eq!(target.deadline, Duration::from_secs(7));
    assert!(target.skip_verify && !checked(&system(&json!({}))).unwrap().skip_verify);
    assert_eq!(target.trusted_token_services, admin_policy().trusted_token_services);
}

#[test]
fn rejects_what_an_older_schema_accepted() {
    let two = json!({"auth": {"basic": {"secretRef": {"name": "a"}}, "ecr": {}}});
    assert_eq!(checked(&system(&two)).unwrap_err(), SpecError::SeveralMethods);
    assert!(checked(&system(&json!({"auth": {"basic": {"secretRef": {"name": "a"}}}}))).is_ok());
    assert_eq!(
        checked(&system(&json!({"baseContentPath": "/a"}))).unwrap_err(),
        SpecError::Path { field: "spec.baseContentPath" }
    );
    assert_eq!(
        checked(&system(&json!({"validation": {"repository": "A"}}))).unwrap_err(),
        SpecError::Path { field: "spec.validation.repository" }
    );
    let scheme = checked(&system(&json!({"endpoint": "oci://registry.example.com"}))).unwrap_err();
    assert_eq!(scheme, SpecError::Endpoint(EndpointError::Scheme));
}

#[test]
fn egress_policy_depends_on_the_scope() {
    let allows = |object: &RegistryObject, address: &str| {
        checked(object).unwrap().egress_policy.allows(address.parse::<IpAddr>().unwrap())
    };
    let (system, tenants) = (system(&json!({})), tenants(&json!({})));
    for address in ["127.0.0.1", "10.96.0.1"] {
        assert!(allows(&system, address) && !allows(&tenants, address), "{address}");
    }
    for address in ["169.254.169.254", "203.0.113.7"] {
        assert!(!allows(&system, address) && !allows(&tenants, address), "{address}");
    }
    assert!(allows(&tenants, "10.96.0.2") && allows(&tenants, "198.51.100.1"));
    let unknown = AdminPolicy { cluster_addresses: ClusterAddresses::new([]), ..admin_policy() };
    let egress_policy = probe_target(&tenants, &unknown).unwrap().egress_policy;
    assert!(
        !egress_policy.allows("127.0.0.1".parse().unwrap())
            && egress_policy.allows("10.96.0.1".parse().unwrap())
    );
}

#[test]
fn ecr_tokens_need_an_identity() {
    let endpoint = Endpoint::parse("https://123456789012.dkr.ecr.eu-central-1.amazonaws.com").unwrap();
    let placed = |ecr: Value| ecr_endpoint(&system(&json!({"auth": {"ecr": ecr}})), &endpoint);
    assert_eq!(placed(json!({})), Ok(None), "public");
    for signing_in in [
        json!({"credentials": {"secretRef": {"name": "k"}}}),
        json!({"sts": {"roleARN": "arn:aws:iam::123456789012:role/registry"}}),
    ] {
        match placed(signing_in) {
            Ok(place) => assert!(ecr::SUPPORTED && place.is_some()),
            // A build without the AWS SDK reports this for both.
            Err(error) => assert_eq!((error, ecr::SUPPORTED), (SpecError::EcrUnsupported, false)),
        }
    }
    assert_eq!(ecr_endpoint(&system(&json!({})), &endpoint).unwrap(), None);
}
