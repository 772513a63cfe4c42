//! AWS's refusals → status, reason and sentence of `CredentialsValidated`. Each sentence says what to do; none holds an
//! ARN, a request id, an endpoint's address or a word of AWS's own.

use registry_api::Reason;
use registry_probe::Withholding;

use super::{Standing, sentences::withheld};
use crate::ecr::{Cause, Outage, Refusal};

pub(super) fn verdict(refusal: &Refusal) -> (Standing, Reason) {
    match &refusal.cause {
        Cause::UnknownKey { .. }
        | Cause::WrongSecret
        | Cause::MalformedKeys
        | Cause::WrongRegion
        | Cause::Withheld(Withholding::TriedTooOften)
        | Cause::Other { .. } => (Standing::False, Reason::Rejected),
        Cause::Expired => (Standing::False, Reason::Expired),
        Cause::RoleDenied { .. } | Cause::NoOperatorIdentity | Cause::OperatorIdentityRefused => {
            (Standing::False, Reason::RoleDenied)
        }
        Cause::ActionDenied { .. } | Cause::TokenRefused { forbidden: true, .. } => {
            (Standing::False, Reason::Forbidden)
        }
        Cause::TokenRefused { forbidden: false, .. } => (Standing::False, Reason::TokenRefused),
        Cause::Throttled | Cause::Withheld(_) => (Standing::Unknown, Reason::Throttled),
        // AWS looks at the time before it looks at the keys: nothing is said of them.
        Cause::Unavailable(_) | Cause::ClockSkew => (Standing::Unknown, Reason::TemporarilyUnavailable),
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
            format!("{aws} can't read the signature: AWS_ACCESS_KEY_ID is malformed; correct it in the Secret")
        }
        Cause::Expired => format!(
            "{aws} says that the session has expired: put fresh AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
             AWS_SESSION_TOKEN into the Secret"
        ),
        Cause::RoleDenied { external_id, other_partition } => {
            role_denied(&aws, *external_id, other_partition.as_deref())
        }
        Cause::ActionDenied { action, explicitly: true } => {
            format!("{aws} refuses {action}: a policy denies it explicitly, so an allowance elsewhere does not help")
        }
        Cause::ActionDenied { action, explicitly: false } => {
            format!("{aws} refuses {action}: allow it to the user or role, for resource *, in an IAM policy")
        }
        Cause::WrongRegion => format!(
            "{aws} does not take these credentials in this region: check spec.auth.ecr.region and the host of \
             spec.endpoint, and that the account has the region enabled"
        ),
        Cause::ClockSkew => format!(
            "{aws} refuses the request for its time: the clock of the operator's node is off by minutes; set it right"
        ),
        Cause::Throttled => format!("{aws} answers that it gets too many requests; tried again later"),
        Cause::Unavailable(outage) => unavailable(&aws, *outage),
        Cause::Withheld(why) => withheld(&aws, *why),
        Cause::NoOperatorIdentity => "The operator has no AWS identity of its own: set up IRSA, EKS Pod Identity or a \
             role of its node, or name a Secret with access keys in spec.auth.ecr.sts.secretRef"
            .to_owned(),
        Cause::OperatorIdentityRefused => {
            "AWS does not take the operator's own identity: check how IRSA or EKS Pod Identity is set up for it".to_owned()
        }
        Cause::TokenRefused { forbidden, region_of_host } => {
            token_refused(region, *forbidden, region_of_host.as_deref())
        }
        Cause::Other { code } => format!("{aws} refuses with {code}"),
    }
}

fn unknown_key(aws: &str, temporary: bool) -> String {
    let what = if temporary { "AWS_ACCESS_KEY_ID or AWS_SESSION_TOKEN" } else { "AWS_ACCESS_KEY_ID" };
    format!(
        "{aws} does not know the access key: correct {what} in the Secret; a key that is deactivated, deleted or of \
         another partition of AWS is unknown too"
    )
}

fn role_denied(aws: &str, external_id: bool, other_partition: Option<&str>) -> String {
    if let Some(partition) = other_partition {
        return format!(
            "{aws} does not let the role be assumed: spec.auth.ecr.sts.roleARN is of the partition {partition}, and the \
             registry is not"
        );
    }
    let external_id = if external_id {
        "asks for another external id than spec.auth.ecr.sts.externalID"
    } else {
        "asks for an external id, to be given in spec.auth.ecr.sts.externalID"
    };
    format!(
        "{aws} does not let the role be assumed: check that spec.auth.ecr.sts.roleARN exists, that its trust policy \
         names who assumes it, who must be allowed sts:AssumeRole, and whether it {external_id}"
    )
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
        Outage::Unreadable => format!("The answer of {aws} can't be read"),
    }
}

#[cfg(test)]
mod tests {
    use registry_api::condition::LAYERS;

    use super::*;
    use crate::ecr::Api;

    fn causes() -> Vec<Cause> {
        let role = |external_id, other_partition: Option<&str>| Cause::RoleDenied {
            external_id,
            other_partition: other_partition.map(ToOwned::to_owned),
        };
        let action = |explicitly| Cause::ActionDenied { action: "ecr:GetAuthorizationToken", explicitly };
        let refused = |forbidden, host: Option<&str>| Cause::TokenRefused {
            forbidden,
            region_of_host: host.map(ToOwned::to_owned),
        };
        let outages = [
            Outage::Timeout,
            Outage::Unreachable,
            Outage::Untrusted,
            Outage::Status(503),
            Outage::Unreadable,
        ];
        let mut causes = vec![
            Cause::UnknownKey { temporary: false },
            Cause::UnknownKey { temporary: true },
            Cause::WrongSecret,
            Cause::MalformedKeys,
            Cause::Expired,
            role(false, None),
            role(true, None),
            role(true, Some("aws-cn")),
            action(true),
            action(false),
            Cause::WrongRegion,
            Cause::ClockSkew,
            Cause::Throttled,
            Cause::NoOperatorIdentity,
            Cause::OperatorIdentityRefused,
            refused(true, None),
            refused(false, Some("eu-west-1")),
            Cause::Other { code: "InvalidParameterException".into() },
        ];
        causes.extend(outages.map(Cause::Unavailable));
        let withheld = [Withholding::TriedTooOften, Withholding::TooManyRejected, Withholding::MemoryFull];
        causes.extend(withheld.map(Cause::Withheld));
        causes
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
