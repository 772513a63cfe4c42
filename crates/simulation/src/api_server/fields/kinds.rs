//! The types of the kinds that are applied. Other kinds are untyped.

use std::sync::LazyLock;

use registry_api::{
    crd,
    spec::{System, Tenant},
};
use serde_json::{Value, json};

use super::field_type::FieldType;
use crate::api_server::resources::{RESOURCES, ResourceIndex};

static TYPES: LazyLock<Vec<FieldType>> =
    LazyLock::new(|| RESOURCES.iter().map(|resource| of_kind(resource.kind)).collect());

/// Returns the type of a resource's objects.
pub(in crate::api_server) fn field_type(resource: ResourceIndex) -> &'static FieldType {
    &TYPES[resource]
}

fn of_kind(kind: &str) -> FieldType {
    use FieldType::Atomic;
    match kind {
        "Secret" => FieldType::object([
            ("data", FieldType::map()),
            ("stringData", FieldType::map()),
            ("type", Atomic),
            ("immutable", Atomic),
        ]),
        "ConfigMap" => FieldType::object([
            ("data", FieldType::map()),
            ("binaryData", FieldType::map()),
            ("immutable", Atomic),
        ]),
        "RoleBinding" | "ClusterRoleBinding" => {
            FieldType::object([("roleRef", Atomic), ("subjects", Atomic)])
        }
        "Role" => FieldType::object([("rules", Atomic)]),
        "ClusterRole" => {
            let aggregation = FieldType::fields([("clusterRoleSelectors", Atomic)]);
            FieldType::object([("rules", Atomic), ("aggregationRule", aggregation)])
        }
        "Namespace" => {
            let conditions = FieldType::keyed_list("type", FieldType::Untyped);
            FieldType::object([
                ("spec", FieldType::fields([("finalizers", Atomic)])),
                ("status", FieldType::fields([("phase", Atomic), ("conditions", conditions)])),
            ])
        }
        "ValidatingAdmissionPolicyBinding" => {
            let spec = [("policyName", Atomic), ("validationActions", FieldType::Set)];
            FieldType::object([("spec", FieldType::fields(spec))])
        }
        "Lease" => FieldType::object([("spec", lease_spec())]),
        "SystemRegistry" => {
            of_registry(&crd::definition::<System>().map(|crd| json!(crd)).unwrap_or_default())
        }
        "TenantRegistry" => {
            of_registry(&crd::definition::<Tenant>().map(|crd| json!(crd)).unwrap_or_default())
        }
        _ => FieldType::object([("spec", FieldType::Untyped), ("status", FieldType::Untyped)]),
    }
}

fn lease_spec() -> FieldType {
    use FieldType::Atomic;
    FieldType::fields([
        ("holderIdentity", Atomic),
        ("leaseDurationSeconds", Atomic),
        ("acquireTime", Atomic),
        ("renewTime", Atomic),
        ("leaseTransitions", Atomic),
        ("strategy", Atomic),
        ("preferredHolder", Atomic),
    ])
}

fn of_registry(definition: &Value) -> FieldType {
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    FieldType::of_schema(schema).with_metadata()
}
