//! AWS's refusals → reason and sentence of `CredentialsValidated`. Each sentence says what to do; none holds an
//! ARN, a request id, an endpoint's address or a word of AWS's own.

use registry_api::Reason;

use super::sentences::withheld;
use crate::ecr::{
    AwsRefusal, Cause, Class, Denial, KeyRefusal, Outage, OwnIdentityFault, PolicyKind, ProxyTrouble,
};

pub(super) fn reason(refusal: &AwsRefusal) -> Reason {
    match refusal.cause.class() {
        Class::KeysRefused(KeyRefusal::Expired) => Reason::Expired,
        Class::KeysRefused(
            KeyRefusal::UnknownKey
            | KeyRefusal::UnknownKeyOrSession
            | KeyRefusal::WrongSecret
            | KeyRefusal::Malformed
            | KeyRefusal::WrongRegion,
        )
        | Class::Withheld => Reason::Rejected,
        Class::RoleDenied => Reason::RoleDenied,
        Class::Forbidden | Class::Unrecognized => Reason::Forbidden,
        Class::TokenRefused => Reason::TokenRefused,
        Class::Throttled => Reason::Throttled,
        Class::Unavailable => Reason::TemporarilyUnavailable,
    }
}

pub(super) fn sentence(refusal: &AwsRefusal) -> String {
    let AwsRefusal { cause, api, region, .. } = refusal;
    let aws = format!("AWS {} ({region})", api.as_str());
    match cause {
        Cause::KeysRefused(refusal) => keys_refused(&aws, *refusal),
        Cause::RoleDenied { other_partition: Some(partition), .. } => format!(
            "{aws} denied the role: spec.auth.ecr.sts.roleARN is in the AWS partition {partition}, but the registry is not; \
             correct it"
        ),
        Cause::RoleDenied { external_id, action, denial, .. } => {
            role_denied(&aws, *external_id, action, *denial)
        }
        Cause::SessionTooLarge => {
            format!("{aws} denied the role: the session tags are too large; use fewer or shorter tags")
        }
        Cause::ActionDenied { action, denial } => action_denied(&aws, action, *denial),
        Cause::RegionDisabled => format!(
            "{aws} is not available: the account has not enabled this region; enable it (and STS in it) or check \
             spec.auth.ecr.region"
        ),
        Cause::NotSubscribed => format!(
            "{aws} is not available: the account is suspended or its sign-up is incomplete; check it in the AWS console"
        ),
        Cause::NoEndpoint => format!(
            "{aws} not reached: the region has no FIPS or dual-stack endpoint; use its other host in spec.endpoint"
        ),
        Cause::ClockSkew => format!(
            "{aws} rejected the time of the request: the clock of the operator's node is wrong; correct it"
        ),
        Cause::Throttled => format!("{aws} is rate limiting requests; retrying later"),
        Cause::Unavailable(outage) => unavailable(&aws, *outage),
        Cause::Withheld(why) => withheld(&aws, *why),
        Cause::Proxy { proxy, trouble } => {
            format!("{aws} not reached: proxy {proxy} {}", in_the_way(*trouble))
        }
        Cause::NoOperatorIdentity => {
            "The operator has no AWS identity; set up IRSA, EKS Pod Identity or a node role, or set \
             spec.auth.ecr.sts.secretRef"
                .to_owned()
        }
        Cause::OperatorIdentityRefused(fault) => operator_refused(*fault).to_owned(),
        Cause::TokenRefused { forbidden, region_of_host } => {
            token_refused(region, *forbidden, region_of_host.as_deref())
        }
        Cause::Other { code } => format!("{aws} failed with {code}; see the AWS documentation of that code"),
    }
}

fn keys_refused(aws: &str, refusal: KeyRefusal) -> String {
    match refusal {
        KeyRefusal::UnknownKey => unknown_key(aws, "AWS_ACCESS_KEY_ID"),
        KeyRefusal::UnknownKeyOrSession => unknown_key(aws, "AWS_ACCESS_KEY_ID or AWS_SESSION_TOKEN"),
        KeyRefusal::WrongSecret => format!(
            "{aws} rejected the signature: AWS_SECRET_ACCESS_KEY does not match AWS_ACCESS_KEY_ID; correct it in the \
             Secret"
        ),
        KeyRefusal::Malformed => {
            format!("{aws} rejected the signature: AWS_ACCESS_KEY_ID is malformed; correct it in the Secret")
        }
        KeyRefusal::WrongRegion => format!(
            "{aws} rejected the region of the request; check spec.auth.ecr.region and the host in spec.endpoint"
        ),
        KeyRefusal::Expired => format!(
            "{aws} reports an expired session; renew AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in \
             the Secret"
        ),
    }
}

fn unknown_key(aws: &str, what: &str) -> String {
    format!(
        "{aws} rejected {what}: unknown, inactive, or from another AWS partition; correct it in the Secret"
    )
}

fn action_denied(aws: &str, action: &str, denial: Denial) -> String {
    match (denial.policy, denial.explicitly) {
        (Some(policy), _) => {
            format!("{aws} denied {action}: {}", policy_says(policy, denial.explicitly, action))
        }
        (None, true) => {
            format!("{aws} denied {action}: a policy explicitly denies it; change that policy")
        }
        (None, false) => {
            format!("{aws} denied {action}; allow it for resource * in an IAM policy of the user or role")
        }
    }
}

/// What that policy says, and what to do about it.
fn policy_says(policy: PolicyKind, explicitly: bool, action: &str) -> String {
    let name = match policy {
        PolicyKind::Identity => "the IAM policy of the user or role",
        PolicyKind::Resource => "the resource-based policy",
        PolicyKind::PermissionsBoundary => "the permissions boundary of the user or role",
        PolicyKind::ServiceControl => "a service control policy (SCP)",
        PolicyKind::ResourceControl => "a resource control policy (RCP)",
        PolicyKind::Session => "the session policy of the credentials",
        PolicyKind::VpcEndpoint => "the policy of the VPC endpoint",
        PolicyKind::RoleTrust => "the trust policy of the role",
    };
    let resource =
        if policy == PolicyKind::Identity && action.starts_with("ecr:") { " for resource *" } else { "" };
    if explicitly {
        format!("{name} explicitly denies it; change that policy")
    } else {
        format!("{name} does not allow it; allow it there{resource}")
    }
}

fn role_denied(aws: &str, external_id: bool, action: &str, denial: Denial) -> String {
    let Denial { policy, explicitly } = denial;
    let by_grant = !explicitly
        && policy.is_none_or(|policy| matches!(policy, PolicyKind::RoleTrust | PolicyKind::Identity));
    match (policy, action) {
        (_, "sts:TagSession") if by_grant => format!(
            "{aws} denied sts:TagSession; allow sts:AssumeRole and sts:TagSession in the trust policy of \
             spec.auth.ecr.sts.roleARN and to the caller"
        ),
        (_, "sts:SetSourceIdentity") if by_grant => format!(
            "{aws} denied sts:SetSourceIdentity; allow it and sts:AssumeRole in the trust policy of \
             spec.auth.ecr.sts.roleARN and to the caller"
        ),
        _ if by_grant => not_trusted(aws, external_id),
        (Some(policy), _) => {
            format!("{aws} denied {action}: {}", policy_says(policy, explicitly, action))
        }
        (None, _) => {
            format!("{aws} denied {action}: a policy explicitly denies it; change that policy")
        }
    }
}

/// AWS does not tell a role that does not exist from one whose trust policy refuses.
fn not_trusted(aws: &str, external_id: bool) -> String {
    let rest = if external_id {
        ", and check its trust policy and spec.auth.ecr.sts.externalID"
    } else {
        " and check its trust policy; set spec.auth.ecr.sts.externalID if needed"
    };
    format!("{aws} denied sts:AssumeRole; check that spec.auth.ecr.sts.roleARN exists{rest}")
}

fn operator_refused(fault: OwnIdentityFault) -> &'static str {
    match fault {
        OwnIdentityFault::Credentials => {
            "AWS rejected the operator's own identity; check its IRSA or EKS Pod Identity configuration"
        }
        OwnIdentityFault::TrustPolicy => {
            "AWS denied the operator's role (IRSA); allow sts:AssumeRoleWithWebIdentity to its service account in the \
             role's trust policy"
        }
        OwnIdentityFault::Token => {
            "AWS rejected the operator's service account token (IRSA); check the OIDC provider in IAM and the audience \
             sts.amazonaws.com"
        }
    }
}

fn token_refused(region: &str, forbidden: bool, region_of_host: Option<&str>) -> String {
    let status = if forbidden { 403 } else { 401 };
    let what = format!("The registry rejected AWS's token ({status})");
    match region_of_host {
        Some(host) => format!(
            "{what}: spec.auth.ecr.region is {region}, but spec.endpoint is in {host}; remove spec.auth.ecr.region"
        ),
        None => {
            format!("{what}; check its access policy and that spec.endpoint is an ECR registry in {region}")
        }
    }
}

fn unavailable(aws: &str, outage: Outage) -> String {
    match outage {
        Outage::Timeout => format!("{aws} did not answer in time; check the network path to it"),
        Outage::Unreachable => format!(
            "{aws} is unreachable; check spec.auth.ecr.region and the network path to AWS or its private endpoint"
        ),
        Outage::Untrusted => {
            format!("{aws} presented a certificate that can't be verified; add its CA to --ca-file")
        }
        Outage::Status(status) => format!("{aws} returned HTTP status {status}; retrying later"),
        Outage::Fault => format!("{aws} reported an internal error; retrying later"),
        Outage::Unreadable => format!("{aws} sent an unreadable answer; retrying later"),
    }
}

fn in_the_way(trouble: ProxyTrouble) -> &'static str {
    match trouble {
        ProxyTrouble::Unreachable => "is unreachable or closed the connection; check the operator's --proxy",
        ProxyTrouble::Timeout => "did not answer in time; check the operator's --proxy",
        ProxyTrouble::LoginRejected => "rejected the login (407); correct it in the operator's --proxy",
        ProxyTrouble::NoTunnel => "did not connect to it; allow the host there or add it to --no-proxy",
    }
}

#[cfg(test)]
mod tests {
    use registry_api::condition::LAYERS;

    use super::{super::aws_catalogue::causes, *};
    use crate::ecr::Api;

    fn role(external_id: bool, other_partition: Option<&str>, action: &'static str, denial: Denial) -> Cause {
        let other_partition = other_partition.map(ToOwned::to_owned);
        Cause::RoleDenied { external_id, other_partition, action, denial }
    }

    fn said(cause: Cause) -> String {
        sentence(&AwsRefusal { cause, api: Api::Sts, region: "eu-west-1".into(), retry_after: None })
    }

    #[test]
    fn names_the_policy_that_refuses() {
        let denial = |policy, explicitly| Denial { policy: Some(policy), explicitly };
        let action = "ecr:GetAuthorizationToken";
        for (policy, name) in [
            (PolicyKind::VpcEndpoint, "the policy of the VPC endpoint"),
            (PolicyKind::PermissionsBoundary, "the permissions boundary"),
            (PolicyKind::ServiceControl, "service control policy (SCP)"),
            (PolicyKind::ResourceControl, "resource control policy"),
            (PolicyKind::Session, "the session policy"),
        ] {
            for explicitly in [false, true] {
                let denial = denial(policy, explicitly);
                let said_of_action = said(Cause::ActionDenied { action, denial });
                assert!(said_of_action.contains(name) && said_of_action.contains(action), "{said_of_action}");
                assert_eq!(said_of_action.contains("explicitly"), explicitly, "{said_of_action}");
                let said_of_role = said(role(false, None, "sts:AssumeRole", denial));
                assert!(said_of_role.contains(name), "{said_of_role}");
                assert!(!said_of_role.contains("IAM policy of"), "{said_of_role}");
            }
        }
    }

    #[test]
    fn names_both_actions_if_tags_are_denied() {
        let said = said(role(false, None, "sts:TagSession", Denial::default()));
        for word in ["sts:AssumeRole", "sts:TagSession", "trust policy", "spec.auth.ecr.sts.roleARN"] {
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn every_cause_has_a_distinct_valid_message() {
        let mut said = std::collections::HashSet::new();
        let proxy = registry_probe::HostPort { host: "proxy.example.com".parse().unwrap(), port: 3128 };
        for cause in causes(&proxy) {
            let refusal =
                AwsRefusal { cause, api: Api::Sts, region: "eu-central-1".into(), retry_after: None };
            let (layer, reason) = (&LAYERS[3], reason(&refusal));
            let allowed = if refusal.is_transient() { layer.unknown } else { layer.bad };
            assert!(allowed.contains(&reason), "{refusal:?}: {reason}");
            let sentence = sentence(&refusal);
            assert!(sentence.chars().count() <= 1024 && !sentence.contains("arn:"), "{sentence}");
            assert!(said.insert(sentence), "{refusal:?} says what another cause says");
        }
    }
}
