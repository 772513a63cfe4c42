//! AWS's refusals → status, reason and sentence of `CredentialsValidated`. Each sentence says what to do; none holds an
//! ARN, a request id, an endpoint's address or a word of AWS's own.

use registry_api::Reason;

use super::{Standing, sentences::withheld};
use crate::ecr::{Cause, Class, Denial, Outage, OwnIdentityFault, PolicyKind, ProxyTrouble, Refusal};

pub(super) fn verdict(refusal: &Refusal) -> (Standing, Reason) {
    match refusal.cause.class() {
        Class::Rejected => (Standing::False, Reason::Rejected),
        Class::Expired => (Standing::False, Reason::Expired),
        Class::RoleDenied => (Standing::False, Reason::RoleDenied),
        Class::Forbidden => (Standing::False, Reason::Forbidden),
        Class::TokenRefused => (Standing::False, Reason::TokenRefused),
        Class::Throttled => (Standing::Unknown, Reason::Throttled),
        Class::Unavailable => (Standing::Unknown, Reason::TemporarilyUnavailable),
    }
}

pub(super) fn sentence(refusal: &Refusal) -> String {
    let Refusal { cause, api, region, .. } = refusal;
    let aws = format!("AWS ({} in {region})", api.as_str());
    match cause {
        Cause::UnknownKey { temporary } => unknown_key(&aws, *temporary),
        Cause::WrongSecret => format!(
            "{aws} finds the signature wrong: AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID; correct it in \
             the Secret"
        ),
        Cause::MalformedKeys => {
            format!(
                "{aws} can't read the signature: AWS_ACCESS_KEY_ID is malformed; correct it in the Secret"
            )
        }
        Cause::Expired => format!(
            "{aws} says that the session has expired: put fresh AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
             AWS_SESSION_TOKEN into the Secret"
        ),
        Cause::RoleDenied { other_partition: Some(partition), .. } => format!(
            "{aws} does not let the role be assumed: spec.auth.ecr.sts.roleARN is of the partition {partition}, and the \
             registry is not"
        ),
        Cause::RoleDenied { external_id, action, denial, .. } => {
            role_denied(&aws, *external_id, action, *denial)
        }
        Cause::SessionTooLarge => format!(
            "{aws} does not let the role be assumed: the session tags of who assumes it are too large; use fewer or \
             shorter tags"
        ),
        Cause::ActionDenied { action, denial } => action_denied(&aws, action, *denial),
        Cause::WrongRegion => format!(
            "{aws} does not take these credentials in this region: check spec.auth.ecr.region and the host of \
             spec.endpoint"
        ),
        Cause::RegionDisabled => format!(
            "{aws} is not available to the account: enable the region {region} in the account (and STS in it), or check \
             spec.auth.ecr.region"
        ),
        Cause::NotSubscribed => format!(
            "{aws} is not available to the account: its sign-up is not complete, or it is suspended; check the account \
             in the AWS console"
        ),
        Cause::NoEndpoint => format!(
            "{aws} can't be asked: AWS has no endpoint of that kind (FIPS or dual-stack) in {region}; use the region's \
             other host in spec.endpoint"
        ),
        Cause::ClockSkew => format!(
            "{aws} refuses the request for its time: the clock of the operator's node is off by minutes; set it right"
        ),
        Cause::Throttled => format!("{aws} answers that it gets too many requests; tried again later"),
        Cause::Unavailable(outage) => unavailable(&aws, *outage),
        Cause::Withheld(why) => withheld(&aws, *why),
        Cause::Proxy { proxy, trouble } => {
            format!("{aws} not reached: proxy {proxy} {}", in_the_way(*trouble))
        }
        Cause::NoOperatorIdentity => {
            "The operator has no AWS identity of its own: set up IRSA, EKS Pod Identity or a \
             role of its node, or name a Secret with access keys in spec.auth.ecr.sts.secretRef"
                .to_owned()
        }
        Cause::OperatorIdentityRefused(fault) => operator_refused(*fault).to_owned(),
        Cause::TokenRefused { forbidden, region_of_host } => {
            token_refused(region, *forbidden, region_of_host.as_deref())
        }
        Cause::Other { code } => format!("{aws} refuses with {code}; AWS's documentation says what it means"),
    }
}

fn unknown_key(aws: &str, temporary: bool) -> String {
    let what = if temporary { "AWS_ACCESS_KEY_ID or AWS_SESSION_TOKEN" } else { "AWS_ACCESS_KEY_ID" };
    format!(
        "{aws} does not know the access key: correct {what} in the Secret; a key that is deactivated, deleted or of \
         another partition of AWS is unknown too"
    )
}

fn action_denied(aws: &str, action: &str, denial: Denial) -> String {
    match (denial.policy, denial.explicitly) {
        (Some(policy), _) => {
            format!("{aws} refuses {action}: {}", policy_says(policy, denial.explicitly, action))
        }
        (None, true) => {
            format!(
                "{aws} refuses {action}: a policy denies it explicitly, so an allowance elsewhere does not help"
            )
        }
        (None, false) => {
            format!("{aws} refuses {action}: allow it to the user or role, for resource *, in an IAM policy")
        }
    }
}

/// What that policy says, and what to do about it.
fn policy_says(policy: PolicyKind, explicitly: bool, action: &str) -> String {
    let name = match policy {
        PolicyKind::Identity => "the IAM policy of the user or role",
        PolicyKind::Resource => "the resource-based policy",
        PolicyKind::PermissionsBoundary => "the permissions boundary of the user or role",
        PolicyKind::ServiceControl => "a service control policy (SCP) of the organization",
        PolicyKind::ResourceControl => "a resource control policy (RCP) of the organization",
        PolicyKind::Session => "the session policy of the credentials",
        PolicyKind::VpcEndpoint => "the policy of the VPC endpoint that the request came through",
        PolicyKind::RoleTrust => "the trust policy of the role",
    };
    let resource =
        if policy == PolicyKind::Identity && action.starts_with("ecr:") { ", for resource *" } else { "" };
    if explicitly {
        format!("{name} denies it explicitly; change that policy, since an allowance elsewhere does not help")
    } else {
        format!("{name} does not allow it; allow {action} there{resource}")
    }
}

fn role_denied(aws: &str, external_id: bool, action: &str, denial: Denial) -> String {
    let what = format!("{aws} does not let the role be assumed");
    let why = match denial.policy {
        Some(policy) => {
            format!("{action} is denied, since {}", policy_says(policy, denial.explicitly, action))
        }
        None if denial.explicitly => format!("a policy denies {action} explicitly; change that policy"),
        None => format!("{action} is denied"),
    };
    match (action, denial.policy) {
        ("sts:TagSession", _) => format!(
            "{what}: {why}; sessions of EKS Pod Identity and of chained roles carry tags, so allow both sts:AssumeRole \
             and sts:TagSession in the trust policy of spec.auth.ecr.sts.roleARN and to who assumes it"
        ),
        ("sts:SetSourceIdentity", _) => format!(
            "{what}: {why}; the session that assumes it has a source identity, so allow both sts:AssumeRole and \
             sts:SetSourceIdentity in the trust policy of spec.auth.ecr.sts.roleARN and to who assumes it"
        ),
        (_, Some(PolicyKind::RoleTrust | PolicyKind::Identity) | None) if !denial.explicitly => {
            not_trusted(&what, external_id)
        }
        _ => format!("{what}: {why}"),
    }
}

/// AWS does not tell a role that does not exist from one whose trust policy refuses.
fn not_trusted(what: &str, external_id: bool) -> String {
    let external_id = if external_id {
        "asks for another external id than spec.auth.ecr.sts.externalID"
    } else {
        "asks for an external id, to be given in spec.auth.ecr.sts.externalID"
    };
    format!(
        "{what}: check that spec.auth.ecr.sts.roleARN exists, that its trust policy names who assumes it, who must be \
         allowed sts:AssumeRole, and whether it {external_id}"
    )
}

fn operator_refused(fault: OwnIdentityFault) -> &'static str {
    match fault {
        OwnIdentityFault::Credentials => {
            "AWS does not take the operator's own identity: check how IRSA or EKS Pod Identity is set up for it"
        }
        OwnIdentityFault::TrustPolicy => {
            "AWS does not let the operator assume its own role (IRSA): allow sts:AssumeRoleWithWebIdentity to the \
             cluster's OIDC provider and the operator's service account in that role's trust policy"
        }
        OwnIdentityFault::Token => {
            "AWS does not take the token of the operator's service account (IRSA): check the cluster's OIDC provider in \
             IAM, its audience sts.amazonaws.com, and that the token is mounted fresh"
        }
    }
}

fn token_refused(region: &str, forbidden: bool, region_of_host: Option<&str>) -> String {
    let status = if forbidden { 403 } else { 401 };
    let what = format!("AWS gave a token, and the registry refuses it ({status})");
    match region_of_host {
        Some(host) => format!(
            "{what}: spec.auth.ecr.region is {region}, but the host of spec.endpoint is in {host}; remove the field"
        ),
        None => {
            format!("{what}: check that spec.endpoint is a registry of ECR in {region}, and who may reach it")
        }
    }
}

fn unavailable(aws: &str, outage: Outage) -> String {
    match outage {
        Outage::Timeout => format!("{aws} did not answer in time"),
        Outage::Unreachable => format!(
            "{aws} can't be reached: check the region, and the way from the operator to AWS's API or its private endpoint"
        ),
        Outage::Untrusted => format!("{aws} shows a certificate that can't be verified"),
        Outage::Status(status) => {
            format!("{aws} answered with HTTP status {status}, which is no answer to the question")
        }
        Outage::Fault => format!("{aws} says that it failed; tried again later"),
        Outage::Unreadable => format!("The answer of {aws} can't be read"),
    }
}

fn in_the_way(trouble: ProxyTrouble) -> &'static str {
    match trouble {
        ProxyTrouble::Unreachable => {
            "can't be reached or closed the connection; check the operator's --proxy"
        }
        ProxyTrouble::Timeout => "did not answer in time",
        ProxyTrouble::LoginRejected => {
            "rejected the login (407); correct the user name and password in the operator's --proxy"
        }
        ProxyTrouble::NoTunnel => {
            "did not connect to AWS's API; allow its host there, or list it in the operator's --no-proxy"
        }
    }
}

#[cfg(test)]
mod tests {
    use registry_api::condition::LAYERS;
    use registry_probe::Withholding;

    use super::*;
    use crate::ecr::Api;

    fn denials() -> Vec<Denial> {
        let kinds = [
            PolicyKind::Identity,
            PolicyKind::Resource,
            PolicyKind::PermissionsBoundary,
            PolicyKind::ServiceControl,
            PolicyKind::ResourceControl,
            PolicyKind::Session,
            PolicyKind::VpcEndpoint,
            PolicyKind::RoleTrust,
        ];
        let policies = kinds.into_iter().map(Some).chain([None]);
        policies.flat_map(|policy| [false, true].map(|explicitly| Denial { policy, explicitly })).collect()
    }

    fn role(external_id: bool, other_partition: Option<&str>, action: &'static str, denial: Denial) -> Cause {
        let other_partition = other_partition.map(ToOwned::to_owned);
        Cause::RoleDenied { external_id, other_partition, action, denial }
    }

    fn causes() -> Vec<Cause> {
        let none = Denial::default();
        let refused = |forbidden, host: Option<&str>| Cause::TokenRefused {
            forbidden,
            region_of_host: host.map(ToOwned::to_owned),
        };
        let outages = [
            Outage::Timeout,
            Outage::Unreachable,
            Outage::Untrusted,
            Outage::Status(503),
            Outage::Fault,
            Outage::Unreadable,
        ];
        let faults = [OwnIdentityFault::Credentials, OwnIdentityFault::TrustPolicy, OwnIdentityFault::Token];
        let mut causes = vec![
            Cause::UnknownKey { temporary: false },
            Cause::UnknownKey { temporary: true },
            Cause::WrongSecret,
            Cause::MalformedKeys,
            Cause::Expired,
            role(false, None, "sts:AssumeRole", none),
            role(true, None, "sts:AssumeRole", none),
            role(true, Some("aws-cn"), "sts:AssumeRole", none),
            role(true, None, "sts:TagSession", none),
            role(true, None, "sts:SetSourceIdentity", none),
            Cause::SessionTooLarge,
            Cause::WrongRegion,
            Cause::RegionDisabled,
            Cause::NotSubscribed,
            Cause::NoEndpoint,
            Cause::ClockSkew,
            Cause::Throttled,
            Cause::NoOperatorIdentity,
            refused(true, None),
            refused(false, Some("eu-west-1")),
            Cause::Other { code: "InvalidParameterException".into() },
        ];
        let denied = |denial| Cause::ActionDenied { action: "ecr:GetAuthorizationToken", denial };
        causes.extend(denials().into_iter().map(denied));
        let named = denials().into_iter().filter(|denial| denial.explicitly && denial.policy.is_some());
        causes.extend(named.map(|denial| role(false, None, "sts:AssumeRole", denial)));
        causes.extend(faults.map(Cause::OperatorIdentityRefused));
        causes.extend(outages.map(Cause::Unavailable));
        let withheld = [Withholding::TriedTooOften, Withholding::TooManyRejected, Withholding::MemoryFull];
        causes.extend(withheld.map(Cause::Withheld));
        let proxy = registry_probe::HostPort { host: "proxy.example.com".parse().unwrap(), port: 3128 };
        let troubles = [
            ProxyTrouble::Unreachable,
            ProxyTrouble::Timeout,
            ProxyTrouble::LoginRejected,
            ProxyTrouble::NoTunnel,
        ];
        causes.extend(troubles.map(|trouble| Cause::Proxy { proxy: proxy.clone(), trouble }));
        causes
    }

    fn said(cause: Cause) -> String {
        sentence(&Refusal { cause, api: Api::Sts, region: "eu-west-1".into(), retry_after: None })
    }

    #[test]
    fn names_the_policy_that_refuses() {
        let denial = |policy, explicitly| Denial { policy: Some(policy), explicitly };
        let action = "ecr:GetAuthorizationToken";
        for (policy, name) in [
            (PolicyKind::VpcEndpoint, "the policy of the VPC endpoint"),
            (PolicyKind::PermissionsBoundary, "the permissions boundary"),
            (PolicyKind::ServiceControl, "service control policy"),
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
    fn names_both_actions_where_tags_are_not_allowed() {
        let said = said(role(false, None, "sts:TagSession", Denial::default()));
        for word in ["sts:AssumeRole", "sts:TagSession", "trust policy", "spec.auth.ecr.sts.roleARN"] {
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn every_cause_keeps_the_contract_and_says_something_of_its_own() {
        let mut said = std::collections::HashSet::new();
        for cause in causes() {
            let refusal = Refusal { cause, api: Api::Sts, region: "eu-central-1".into(), retry_after: None };
            let (status, reason) = verdict(&refusal);
            let layer = &LAYERS[3];
            let allowed = if status == Standing::False { layer.bad } else { layer.unknown };
            assert!(status != Standing::True && allowed.contains(&reason), "{refusal:?}: {reason}");
            assert_eq!(refusal.is_transient(), status == Standing::Unknown, "{refusal:?}");
            let sentence = sentence(&refusal);
            assert!(sentence.chars().count() <= 1024 && !sentence.contains("arn:"), "{sentence}");
            assert!(said.insert(sentence), "{refusal:?} says what another cause says");
        }
    }
}
