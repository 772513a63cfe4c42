//! The CEL rules of the schema: what the API server refuses, and the message that says what to write instead.
//!
//! Each rule is on the field that it checks, so that the API server names the path. The message names it too, because
//! some clients show only the message. String fields have a `maxLength`, which limits the cost of a rule.

use kube::core::{Reason, Rule};

use crate::ecr_hosts;

fn rule(cel: &str, message: &str) -> Rule {
    Rule::new(cel).message(message)
}

/// DNS labels of at most 63 characters (RFC 1035), with or without a dot at the end.
const NAME: &str =
    "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*[.]?";
/// What URL parsers accept as an IPv4 address: decimal, octal or hexadecimal, with fewer than four parts.
const NUMBER: &str = "([^/:]*[.])?([0-9]+|0[xX][0-9A-Fa-f]*)[.]?";
/// The only form of an IPv4 address that all parsers read in the same way.
const IPV4: &str =
    "((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// Distinguishes an IPv6 address from other text; `isURL` checks it.
const IPV6: &str = "[\\\\[][0-9A-Fa-f:.]+[\\\\]]";
const PORT: &str = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]";
/// No empty segment, no `.` and `..`, no escapes: clients and servers normalize these in different ways.
const PATH: &str = "(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?";
/// Characters of a URL that may be followed by a password or a token. One message is enough then, and it must not
/// repeat the value, as the API server's errors do: the rules for it are `FieldValueForbidden`, and all other rules
/// ignore such a URL.
const SUSPECT: &str = "[@?#]";

pub(crate) fn endpoint_scheme() -> Rule {
    rule(
        &format!("self.matches('{SUSPECT}') || self.startsWith('https://') || self.startsWith('http://')"),
        "spec.endpoint must start with https:// (or http:// for a registry without TLS), not oci://",
    )
}

pub(crate) fn endpoint_userinfo() -> Rule {
    rule(
        "!self.contains('@')",
        "spec.endpoint must not contain credentials; put them in a Secret and reference it from \
         spec.auth.basic.secretRef",
    )
    .reason(Reason::FieldValueForbidden)
}

pub(crate) fn endpoint_query() -> Rule {
    rule(
        "self.contains('@') || (!self.contains('?') && !self.contains('#'))",
        "spec.endpoint must not contain a query (?) or fragment (#); write only the scheme, host, port and \
         path",
    )
    .reason(Reason::FieldValueForbidden)
}

/// Only checks what no other rule of the endpoint refuses, so that one mistake causes one message.
pub(crate) fn endpoint_grammar() -> Rule {
    rule(
        &format!(
            "!self.matches('^https?://') || self.matches('{SUSPECT}') || \
             (isURL(self) && self.matches('^https?://({NAME}|{IPV6})(:[0-9]+)?{PATH}$') && \
             !self.matches('^https?://[^/:]{{253}}([^/:.]|[.][^/:])') && \
             (!self.matches('^https?://{NUMBER}([:/]|$)') || self.matches('^https?://{IPV4}([:/]|$)')))"
        ),
        "spec.endpoint must be https://HOST[:PORT][/PATH]: HOST a DNS name, IPv4 address or [IPv6 address], \
         PATH letters, digits and - . _ ~ between single slashes",
    )
}

pub(crate) fn endpoint_port() -> Rule {
    const HOST: &str = "([^/:]+|[\\\\[][^/]*[\\\\]])";
    rule(
        &format!(
            "self.matches('{SUSPECT}') || !self.matches('^https?://{HOST}:[0-9]+(/|$)') || \
             self.matches('^https?://{HOST}:({PORT})(/|$)')"
        ),
        "spec.endpoint must have a port from 1 to 65535, or none",
    )
}

pub(crate) fn endpoint_api_version() -> Rule {
    rule(
        &format!("self.matches('{SUSPECT}') || !self.matches('^https?://[^/]+/(.*/)?v2/?$')"),
        "spec.endpoint must not end in /v2, which is added to every request; put the path of the content in \
         spec.baseContentPath",
    )
}

/// The grammar of repository names in the OCI distribution specification, section "Pulling manifests".
fn repository_path(message: &str) -> Rule {
    rule(
        "self.matches('^[a-z0-9]+((\\\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\\\.|_|__|-+)[a-z0-9]+)*)*$')",
        message,
    )
}

pub(crate) fn base_content_path() -> Rule {
    repository_path(
        "spec.baseContentPath must be a repository path such as team/packs: lower-case letters and digits, \
         joined by . _ __ - or /; omit it if there is none",
    )
}

pub(crate) fn validation_repository() -> Rule {
    repository_path(
        "spec.validation.repository must be a repository below spec.baseContentPath, such as hello: lower-case \
         letters and digits, joined by . _ __ - or /",
    )
}

pub(crate) fn one_auth_method() -> Rule {
    rule(
        "[has(self.basic), has(self.token), has(self.ecr)].filter(set, set).size() <= 1",
        "spec.auth must have at most one of basic, token and ecr; remove the others, or omit spec.auth for an \
         unprotected registry",
    )
}

pub(crate) fn one_ecr_method() -> Rule {
    rule(
        "!(has(self.credentials) && has(self.sts))",
        "spec.auth.ecr must have either credentials (access keys) or sts (a role to assume), not both; omit \
         both for a public ECR registry",
    )
}

pub(crate) fn ecr_region() -> Rule {
    rule(
        &format!("self.matches('^{}$')", ecr_hosts::REGION),
        "spec.auth.ecr.region must be an AWS region such as eu-central-1; omit it to use the region in \
         spec.endpoint",
    )
}

pub(crate) fn role_arn() -> Rule {
    rule(
        "self.matches('^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]*[A-Za-z0-9_+=,.@-]$')",
        "spec.auth.ecr.sts.roleARN must be the ARN of an IAM role, such as arn:aws:iam::123456789012:role/registry",
    )
}

/// The bounds of `AssumeRole` in the AWS STS API reference. The field's `maxLength` is the upper one.
pub(crate) fn external_id() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9_+=,.@:/-]{2,}$')",
        "spec.auth.ecr.sts.externalID must have 2 to 1224 letters, digits or _+=,.@:/- as in the role's trust \
         policy; omit it if the policy requires none",
    )
}

/// The host is an ECR host with a region, or the region is set, or the registry is public. Ignores a missing scheme,
/// for which there is another rule.
pub(crate) fn ecr_region_known() -> Rule {
    let (private, public) = (ecr_hosts::private_pattern(), ecr_hosts::public_pattern());
    rule(
        &format!(
            "!has(self.auth) || !has(self.auth.ecr) || has(self.auth.ecr.region) || \
             (!has(self.auth.ecr.credentials) && !has(self.auth.ecr.sts)) || \
             self.endpoint.matches('(?i)^([a-z]+://)?({private}|{public})[.]?([:/?#]|$)')"
        ),
        "spec.auth.ecr.region is required, because the host in spec.endpoint does not contain the region; set \
         it, such as eu-central-1",
    )
    .field_path(".auth.ecr.region")
    .reason(Reason::FieldValueRequired)
}

/// ECR Public serves everyone, and doesn't accept the tokens of private ECR registries.
pub(crate) fn ecr_public_without_identity() -> Rule {
    rule(
        &format!(
            "!has(self.auth) || !has(self.auth.ecr) || (!has(self.auth.ecr.credentials) && !has(self.auth.ecr.sts)) || \
             !self.endpoint.matches('(?i)^https?://({})[.]?([:/]|$)')",
            ecr_hosts::public_pattern()
        ),
        "spec.auth.ecr must be empty for ECR Public (public.ecr.aws), which needs no credentials; remove \
         credentials and sts",
    )
    .field_path(".auth.ecr")
    .reason(Reason::FieldValueForbidden)
}

pub(crate) fn client_certificate_needs_tls() -> Rule {
    rule(
        "!(has(self.tls) && has(self.tls.clientCertificate) && self.endpoint.startsWith('http://'))",
        "spec.tls.clientCertificate can't be used with an http:// spec.endpoint; use https:// or remove it",
    )
    .field_path(".tls.clientCertificate")
    .reason(Reason::FieldValueForbidden)
}

pub(crate) fn one_ca_source() -> Rule {
    rule(
        "[has(self.inline), has(self.configMapRef), has(self.secretRef)].filter(set, set).size() <= 1",
        "spec.tls.ca must have at most one of inline, configMapRef and secretRef; remove the others",
    )
}

pub(crate) fn ca_certificate() -> Rule {
    rule(
        "self.contains('PRIVATE KEY-----') || \
         self.matches('-----BEGIN CERTIFICATE-----[[:space:]]+[A-Za-z0-9+/=][A-Za-z0-9+/=[:space:]]*-----END CERTIFICATE-----')",
        "spec.tls.ca.inline must contain a complete PEM certificate, from -----BEGIN CERTIFICATE----- to \
         -----END CERTIFICATE-----",
    )
    .reason(Reason::FieldValueForbidden) // whose error does not repeat what may be a key, or 128 KiB
}

pub(crate) fn ca_without_key() -> Rule {
    rule(
        "!self.contains('PRIVATE KEY-----')",
        "spec.tls.ca.inline must not contain a private key; remove it and treat that key as disclosed",
    )
    .reason(Reason::FieldValueForbidden)
}

/// A valid name of a Secret or `ConfigMap` (RFC 1123 subdomain).
fn object_name(field: &str) -> Rule {
    rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        &format!(
            "{field} must be an object name: lower-case letters, digits, - and ., starting and ending with a \
             letter or digit"
        ),
    )
}

pub(crate) fn reference_name() -> Rule {
    object_name("the name in a secretRef or configMapRef")
}

pub(crate) fn pull_secret_name() -> Rule {
    object_name("spec.availability.pullSecret.name")
}

pub(crate) fn reference_key() -> Rule {
    rule(
        "self.matches('^[-._a-zA-Z0-9]+$')",
        "the key in spec.tls.ca must be a key of the Secret or ConfigMap: letters, digits, - _ and .; omit it \
         for ca.crt",
    )
}

fn duration_grammar(field: &str, example: &str) -> Rule {
    rule(
        "self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$')",
        &format!("{field} must be a duration such as {example}, in h, m, s or ms"),
    )
}

fn duration_bounds(field: &str, low: &str, high: &str) -> Rule {
    rule(
        &format!(
            "!self.matches('^([0-9]{{1,6}}([.][0-9]{{1,6}})?(ms|s|m|h))+$') || \
             (duration(self) >= duration('{low}') && duration(self) <= duration('{high}'))"
        ),
        &format!("{field} must be from {low} to {high}"),
    )
}

pub(crate) fn interval_grammar() -> Rule {
    duration_grammar("spec.validation.interval", "10m")
}

pub(crate) fn interval_bounds() -> Rule {
    duration_bounds("spec.validation.interval", "1m", "24h")
}

pub(crate) fn timeout_grammar() -> Rule {
    duration_grammar("spec.validation.timeout", "30s")
}

pub(crate) fn timeout_bounds() -> Rule {
    duration_bounds("spec.validation.timeout", "1s", "5m")
}

pub(crate) fn failure_threshold() -> Rule {
    rule("self >= 1 && self <= 100", "spec.validation.failureThreshold must be from 1 to 100")
}

pub(crate) fn tenant_names() -> Rule {
    rule(
        "self.all(tenant, tenant.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
        "spec.availability.tenants must list values of the label registry.spectrocloud.com/tenant: at most 63 \
            letters, digits, - _ and ., a letter or digit at both ends",
    )
}

pub(crate) fn some_tenants() -> Rule {
    rule(
        "self.size() > 0",
        "spec.availability.tenants must list at least one tenant; omit it for all tenants",
    )
}

/// Only for `TenantRegistry`: the rest of the spec is the same in both scopes.
pub(crate) fn tenant_has_its_own_availability() -> Rule {
    rule(
        "!has(self.availability) || !has(self.availability.tenants)",
        "spec.availability.tenants is only for SystemRegistries; remove it, as a TenantRegistry is available \
         to its own tenant",
    )
    .field_path(".availability.tenants")
    .reason(Reason::FieldValueForbidden)
}

/// Only for `TenantRegistry`: the operator's AWS identity is for SystemRegistries.
pub(crate) fn tenant_has_its_own_identity() -> Rule {
    rule(
        "!has(self.auth) || !has(self.auth.ecr) || !has(self.auth.ecr.sts) || has(self.auth.ecr.sts.secretRef)",
        "spec.auth.ecr.sts.secretRef is required in a TenantRegistry; reference a Secret with AWS access keys \
         (only SystemRegistries use the operator's identity)",
    )
    .field_path(".auth.ecr.sts.secretRef")
    .reason(Reason::FieldValueRequired)
}
