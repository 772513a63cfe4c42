//! Probes an ECR registry: signs in to AWS, then checks whether the registry accepts the token.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use registry_probe::{
    ContentPathFinding, Credentials, CredentialsFinding, Findings, HostPort, Inconclusive, Material, Prober,
    RepositoryName, Target, Withholding,
};
use tokio::time::Instant;

use super::{
    cache::{CachedAnswer, Taken, Urgency},
    causes::{Api, AwsRefusal, Cause, Class, Outage},
    identity::Login,
    tokens::{EcrToken, EcrTokens},
};
use crate::rejections::{
    CredentialSession,
    table::{CredentialAnswer, Decision, HostRefusal},
};

/// The result of probing an ECR registry.
#[derive(Debug)]
pub struct EcrObservation {
    /// The registry's findings: with the token, or anonymous if AWS issued none.
    pub findings: Findings,
    /// Why there is no token, or why the registry refused it.
    pub refusal: Option<AwsRefusal>,
    /// When to renew the token.
    pub renewal: Option<Renewal>,
    /// The token that the findings are about.
    pub used: Option<Credentials>,
}

/// When to renew a token: after one time, and well before another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Renewal {
    /// From then on, a new token is available.
    pub from: Timestamp,
    /// Until then, the old token is valid.
    pub until: Timestamp,
}

impl Renewal {
    /// Returns a random time in the first half, so that registries that share a token aren't validated at the same
    /// time. If it is time and there is no new token yet, returns a time soon, and then again well before the old token
    /// expires.
    pub fn after(self, now: Timestamp, chance: f64) -> Timestamp {
        let chance = chance.clamp(0.0, 1.0);
        let span = |from, to: Timestamp| Duration::try_from(to.duration_since(from)).unwrap_or_default();
        let later = |from: Timestamp, wait| from.checked_add(wait).unwrap_or(from);
        let first = later(self.from, span(self.from, self.until).mul_f64(0.5 * chance));
        let soon = (span(now, self.until) / 8).max(SOONEST).mul_f64(1.0 + 0.1 * chance);
        if self.from > now { first } else { later(now, soon) }
    }
}

/// The minimum delay before checking for a renewal that is in progress or was refused by AWS.
const SOONEST: Duration = Duration::from_secs(2);

/// What to probe.
#[derive(Clone, Copy)]
pub struct EcrCase<'a> {
    /// The registry.
    pub target: &'a Target,
    /// Certificates and other material, without the credentials.
    pub material: &'a Material,
    /// Who signs in.
    pub login: &'a Login,
    /// Why the validation happens now.
    pub urgency: Urgency,
    /// Decides whether the access keys may be used at AWS; `None` if rejections aren't remembered.
    pub session: Option<&'a CredentialSession>,
}

/// Signs in and probes, within the target's deadline.
pub async fn probe(
    prober: &Prober,
    tokens: &Arc<EcrTokens>,
    case: EcrCase<'_>,
    now: Timestamp,
) -> EcrObservation {
    let run = EcrProbe { prober, tokens, case, now, began: Instant::now() };
    match run.sign_in().await {
        Ok((token, reused)) => run.with_token(token, reused).await,
        Err(refusal) => run.without_token(refusal).await,
    }
}

struct EcrProbe<'a> {
    prober: &'a Prober,
    tokens: &'a Arc<EcrTokens>,
    case: EcrCase<'a>,
    now: Timestamp,
    began: Instant,
}

impl EcrProbe<'_> {
    /// AWS may use two thirds of the time; the rest is for the registry.
    async fn sign_in(&self) -> Result<(Arc<CachedAnswer<EcrToken>>, bool), AwsRefusal> {
        let patience = (self.case.target.deadline * 2 / 3).saturating_sub(self.began.elapsed());
        match tokio::time::timeout(patience, self.admit_and_ask()).await {
            Ok(Ok(taken)) => Ok((taken.kept, taken.reused)),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => {
                self.await_later();
                Err(self.refusal(Api::Ecr, Cause::Unavailable(Outage::Timeout)))
            }
        }
    }

    /// Lets the answer about the access keys be awaited in the background, if they were sent. The request itself goes on anyway,
    /// because registries share it.
    fn await_later(&self) {
        let EcrCase { login, session, .. } = self.case;
        if let Some(session) = session.filter(|session| session.is_open()) {
            let (tokens, login) = (self.tokens.clone(), login.clone());
            session.await_later(Box::pin(async move {
                let answer = tokens.sign_in(&login, Urgency::Due).await;
                answer.as_ref().map_or_else(verdict, |_| CredentialAnswer::Accepted)
            }));
        }
    }

    async fn admit_and_ask(&self) -> Result<Taken<EcrToken>, AwsRefusal> {
        let EcrCase { login, urgency, .. } = self.case;
        let Some(session) = self.case.session.filter(|_| login.keys().is_some()) else {
            return self.tokens.sign_in(login, urgency).await;
        };
        let decision = session.admit_at(&login.place_asked_first()).await;
        if let Some(refusal) = self.withheld(decision) {
            return Err(refusal);
        }
        let answer = self.tokens.sign_in(login, urgency).await;
        let verdict = answer.as_ref().map_or_else(verdict, |_| CredentialAnswer::Accepted);
        let pause = session.settle(verdict);
        answer.map_err(|refusal| AwsRefusal { retry_after: pause.or(refusal.retry_after), ..refusal })
    }

    /// Returns the refusal if the access keys may not be used now.
    fn withheld(&self, decision: Decision) -> Option<AwsRefusal> {
        let refusal = |(api, cause), wait| AwsRefusal { retry_after: Some(wait), ..self.refusal(api, cause) };
        let withheld = |why| (Api::Ecr, Cause::Withheld(why));
        match decision {
            Decision::Send(_) | Decision::Wait => None,
            Decision::Paused(HostRefusal::Aws(api, keys), wait) => {
                Some(refusal((api, Cause::KeysRefused(keys)), wait))
            }
            Decision::Paused(HostRefusal::Rejected | HostRefusal::Forbidden | HostRefusal::Expired, wait)
            | Decision::TriedTooOften(_, wait) => Some(refusal(withheld(Withholding::TriedTooOften), wait)),
            Decision::TooManyRejected(wait) => Some(refusal(withheld(Withholding::TooManyRejected), wait)),
            Decision::Full(wait) => Some(refusal(withheld(Withholding::MemoryFull), wait)),
        }
    }

    /// If a cached token was revoked, gets a new one, once.
    async fn with_token(&self, token: Arc<CachedAnswer<EcrToken>>, reused: bool) -> EcrObservation {
        let findings = self.probe_with(&token).await;
        if self.refused(&findings.credentials).is_none()
            || !reused
            || !self.tokens.discard(self.case.login, &token)
        {
            return self.observation(findings, &token);
        }
        match self.sign_in().await {
            Ok((token, _)) => self.observation(self.probe_with(&token).await, &token),
            Err(refusal) => EcrObservation { findings, refusal: Some(refusal), renewal: None, used: None },
        }
    }

    /// The endpoint and the certificate are checked without a token too.
    async fn without_token(&self, refusal: AwsRefusal) -> EcrObservation {
        let target = Target { repository: None, ..self.target() };
        let findings = self.prober.probe(&target, self.case.material, self.now).await;
        EcrObservation { findings, refusal: Some(refusal), renewal: None, used: None }
    }

    async fn probe_with(&self, token: &CachedAnswer<EcrToken>) -> Findings {
        let named = self.case.target.repository.is_some();
        let found = if named { None } else { self.found_repository().await };
        let material =
            Material { credentials: Some(token.value.credentials.clone()), ..self.case.material.clone() };
        let target = match &found {
            // The full name, with the base path.
            Some(repository) => {
                Target { base_path: None, repository: Some(repository.clone()), ..self.target() }
            }
            None => self.target(),
        };
        let mut findings = self.prober.probe(&target, &material, self.now).await;
        findings.credentials_expire_at = Some(token.value.expires_at);
        if found.is_some() {
            findings.content_path = of_found(findings.content_path);
        }
        findings
    }

    /// Finds a repository below the base path, if the spec names none.
    async fn found_repository(&self) -> Option<RepositoryName> {
        let base = self.case.target.base_path.as_ref()?;
        let patience = (self.case.target.deadline / 2).saturating_sub(self.began.elapsed());
        tokio::time::timeout(patience, self.tokens.repository(self.case.login, base)).await.ok().flatten()
    }

    fn target(&self) -> Target {
        let target = self.case.target.clone();
        let left = target.deadline.saturating_sub(self.began.elapsed());
        Target { deadline: left.max(LEAST), ..target }
    }

    fn observation(&self, findings: Findings, token: &CachedAnswer<EcrToken>) -> EcrObservation {
        let refusal = self.refused(&findings.credentials).map(|cause| self.refusal(Api::Ecr, cause));
        let renewal = Renewal { from: token.renew_at, until: token.useless_at };
        EcrObservation {
            findings,
            refusal,
            renewal: Some(renewal),
            used: Some(token.value.credentials.clone()),
        }
    }

    /// Returns what the registry's refusal of AWS's token means. It doesn't mean that the user's keys are wrong.
    fn refused(&self, finding: &CredentialsFinding) -> Option<Cause> {
        let forbidden = match finding {
            CredentialsFinding::Rejected { by, .. } if self.is_registry(by) => false,
            CredentialsFinding::Forbidden { by } if self.is_registry(by) => true,
            CredentialsFinding::Expired => true,
            CredentialsFinding::Rejected { .. }
            | CredentialsFinding::Forbidden { .. }
            | CredentialsFinding::NotAttempted
            | CredentialsFinding::Validated(_)
            | CredentialsFinding::AnonymousAccess
            | CredentialsFinding::ForbiddenToAll { .. }
            | CredentialsFinding::Required
            | CredentialsFinding::UntrustedTokenService { .. }
            | CredentialsFinding::TokenRefused { .. }
            | CredentialsFinding::UnsupportedScheme { .. }
            | CredentialsFinding::Unprovable(_)
            | CredentialsFinding::Throttled { .. }
            | CredentialsFinding::Withheld { .. }
            | CredentialsFinding::TemporarilyUnavailable { .. } => return None,
        };
        let region_of_host = self.case.login.endpoint.region_of_host.clone();
        Some(Cause::TokenRefused { forbidden, region_of_host })
    }

    fn is_registry(&self, server: &HostPort) -> bool {
        server == self.case.target.endpoint.server()
    }

    fn refusal(&self, api: Api, cause: Cause) -> AwsRefusal {
        AwsRefusal { cause, api, region: self.case.login.endpoint.region.clone(), retry_after: None }
    }
}

/// Returns what AWS's refusal says about the access keys.
fn verdict(refusal: &AwsRefusal) -> CredentialAnswer {
    match refusal.cause.class() {
        Class::KeysRefused(keys) => CredentialAnswer::Refused(HostRefusal::Aws(refusal.api, keys)),
        Class::Throttled | Class::Unavailable | Class::Unrecognized | Class::Withheld => {
            CredentialAnswer::Nothing
        }
        // AWS accepted the signature, whatever else it refused.
        Class::RoleDenied | Class::Forbidden | Class::TokenRefused => CredentialAnswer::Accepted,
    }
}

/// The minimum time for the registry if AWS used nearly all of it.
const LEAST: Duration = Duration::from_millis(100);

/// If a repository that was found, and not named in the spec, can't be read, that says nothing about the others.
fn of_found(finding: ContentPathFinding) -> ContentPathFinding {
    use ContentPathFinding as F;
    match finding {
        F::Denied { repository, status } => {
            F::Inconclusive(Inconclusive::UnexpectedStatus { repository, status })
        }
        F::NotFound { repository } => {
            F::Inconclusive(Inconclusive::UnexpectedStatus { repository, status: 404 })
        }
        other @ (F::NotAttempted | F::Accessible { .. } | F::Inconclusive(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use futures::future::BoxFuture;
    use registry_probe::{EgressPolicy, EgressScope, Endpoint, ProberSettings};
    use tokio::sync::Notify;

    use super::*;
    use crate::{
        ecr::{
            KeyRefusal,
            cache::Fresh,
            hosts::EcrEndpoint,
            identity::{Identity, Keys},
            tokens::Issuer,
        },
        object::Group,
        rejections::{FinishingValidations, Rejections, table::Table},
    };

    /// AWS, which refuses access keys once notified.
    struct SlowAws(Arc<Notify>);

    fn wrong_secret() -> AwsRefusal {
        let cause = Cause::KeysRefused(KeyRefusal::WrongSecret);
        AwsRefusal { cause, api: Api::Ecr, region: "eu-central-1".into(), retry_after: None }
    }

    impl Issuer for SlowAws {
        fn issue(&self, _login: Login) -> BoxFuture<'static, Result<Fresh<EcrToken>, AwsRefusal>> {
            let notified = self.0.clone();
            Box::pin(async move {
                notified.notified().await;
                Err(wrong_secret())
            })
        }

        fn find(
            &self,
            _login: Login,
            _base: RepositoryName,
        ) -> BoxFuture<'static, Result<Fresh<Option<RepositoryName>>, AwsRefusal>> {
            Box::pin(async { Err(wrong_secret()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn late_refusal_of_access_keys_counts() {
        let answers = Arc::new(Notify::new());
        let clock = || Timestamp::UNIX_EPOCH;
        let tokens = Arc::new(EcrTokens::new(Arc::new(SlowAws(answers.clone())), clock, || 0.0).unwrap());
        let rejections =
            Rejections::new(Table::default(), hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), clock);
        let keys = Keys { id: "id".into(), secret: "wrong".into(), session: None };
        let session = || rejections.session(Group::System, &keys.parts().map(|part| part), false, None);
        let endpoint = EcrEndpoint {
            account: None,
            region: "eu-central-1".into(),
            region_of_host: None,
            fips: false,
            dual_stack: false,
        };
        let login = Login { tenant: None, endpoint, identity: Identity::Keys(keys.clone()) };
        let target = Target {
            endpoint: Endpoint::parse("https://127.0.0.1:1").unwrap(),
            base_path: None,
            repository: None,
            skip_verify: false,
            egress_policy: EgressPolicy::new(EgressScope::Tenant, [], []),
            trusted_token_services: Arc::new([]),
            only_to_endpoint: false,
            deadline: Duration::from_secs(3),
        };
        let prober = Prober::new(ProberSettings::default()).unwrap();
        let first = session();
        let case = EcrCase {
            target: &target,
            material: &Material::default(),
            login: &login,
            urgency: Urgency::Due,
            session: Some(&first),
        };
        let seen = probe(&prober, &tokens, case, clock()).await;
        assert_eq!(seen.refusal.unwrap().cause, Cause::Unavailable(Outage::Timeout));
        let finishing = FinishingValidations::default();
        finishing.finish(first, async {});
        let second = session();
        let place = login.place_asked_first();
        let waiting = tokio::spawn(async move { second.admit_at(&place).await });
        answers.notify_one();
        let refusal = HostRefusal::Aws(Api::Ecr, KeyRefusal::WrongSecret);
        assert_eq!(waiting.await.unwrap(), Decision::Paused(refusal, Duration::from_mins(1)));
    }

    fn said_of_keys(cause: Cause) -> CredentialAnswer {
        verdict(&AwsRefusal { cause, api: Api::Sts, region: "eu-central-1".into(), retry_after: None })
    }

    #[test]
    fn refused_keys_pause() {
        for keys in (0..=u8::MAX).map_while(KeyRefusal::from_repr) {
            let refused = CredentialAnswer::Refused(HostRefusal::Aws(Api::Sts, keys));
            assert_eq!(said_of_keys(Cause::KeysRefused(keys)), refused);
        }
    }

    #[test]
    fn unknown_code_says_nothing_about_keys() {
        assert_eq!(said_of_keys(Cause::Other { code: "Strange".into() }), CredentialAnswer::Nothing);
        assert_eq!(said_of_keys(Cause::Throttled), CredentialAnswer::Nothing);
        assert_eq!(said_of_keys(Cause::RegionDisabled), CredentialAnswer::Accepted);
    }
}
