//! Whose rights are used. A client can't be made without what a user signed in with, and nothing else here makes one.

use std::{path::Path, time::Duration};

use http::{HeaderValue, Request, header::AUTHORIZATION};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config,
    api::PostParams,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use registry_check::cluster::{Cluster, NO_CREDENTIALS, is_credentials_failure};
use registry_verdict::api_server::{ConfigError, from_kubeconfig};
use thiserror::Error;
use tower::service_fn;

use crate::bearer_token::BearerToken;

const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(30);

/// Why nobody can sign in.
#[derive(Debug, Error)]
pub enum SignInError {
    /// There is no kubeconfig, or it can't be used.
    #[error("failed to load the kubeconfig: {0}; set KUBECONFIG or --kubeconfig")]
    Kubeconfig(KubeconfigError),
    /// It is no kubeconfig. What the parser says holds what stands there: tokens and keys.
    #[error("invalid kubeconfig; correct it, or name another with --kubeconfig")]
    Malformed,
    /// The way to the cluster isn't supported.
    #[error(transparent)]
    Config(ConfigError),
    /// No client can be made of it.
    #[error("failed to create a client for the API server: {}", client_error(.0))]
    Client(kube::Error),
}

/// Without the output of exec plugins, which can contain tokens.
fn client_error(error: &kube::Error) -> String {
    if is_credentials_failure(error) { NO_CREDENTIALS.to_owned() } else { error.to_string() }
}

impl From<KubeconfigError> for SignInError {
    fn from(error: KubeconfigError) -> Self {
        match error {
            KubeconfigError::Parse(_) => Self::Malformed,
            error => Self::Kubeconfig(error),
        }
    }
}

/// What a user signed in with. Not shown by anything.
#[derive(Clone)]
pub struct SignIn(SignInMeans);

#[derive(Clone)]
enum SignInMeans {
    /// The user of a kubeconfig, with connections of its own.
    Kubeconfig(Box<Config>),
    /// The user of a token, over the connections that all users of tokens share.
    Token { connections: Client, namespace: String, authorization: HeaderValue },
}

#[cfg(test)]
impl SignIn {
    /// For tests: any kubeconfig.
    pub fn simulated(config: Config) -> Self {
        Self(SignInMeans::Kubeconfig(Box::new(config)))
    }
}

impl SignIn {
    /// The user of a kubeconfig, by whatever means kubectl would use: certificate, token, exec plugin, OIDC.
    pub async fn by_kubeconfig(file: Option<&Path>, context: Option<&str>) -> Result<Self, SignInError> {
        let kubeconfig = file.map_or_else(Kubeconfig::read, Kubeconfig::read_from)?;
        let options =
            KubeConfigOptions { context: context.map(ToOwned::to_owned), ..KubeConfigOptions::default() };
        let config = from_kubeconfig(kubeconfig, &options).await.map_err(|error| match error {
            ConfigError::Kubeconfig(error) => error.into(),
            error => SignInError::Config(error),
        })?;
        Ok(Self(SignInMeans::Kubeconfig(Box::new(config))))
    }
}

/// Where the API server is, and connections to it that nobody has signed in on: the API server looks at each request's token.
#[derive(Clone)]
pub struct ApiServerAddress {
    connections: Client,
    namespace: String,
}

impl ApiServerAddress {
    /// Takes the address out of a configuration, and leaves its credentials.
    pub fn of(config: &Config) -> Result<Self, kube::Error> {
        let address = without_credentials(config);
        let namespace = address.default_namespace.clone();
        Ok(Self { connections: Client::try_from(with_deadlines(address))?, namespace })
    }

    /// The user of a token at this API server.
    pub fn sign_in(&self, token: &BearerToken) -> SignIn {
        let Self { connections, namespace } = self.clone();
        SignIn(SignInMeans::Token { connections, namespace, authorization: token.authorization() })
    }
}

#[cfg(test)]
impl ApiServerAddress {
    /// A simulated API server.
    pub fn simulated(connections: Client) -> Self {
        Self { connections, namespace: "default".to_owned() }
    }
}

fn without_credentials(config: &Config) -> Config {
    let mut address = Config::new(config.cluster_url.clone());
    address.root_cert.clone_from(&config.root_cert);
    address.root_cert_file.clone_from(&config.root_cert_file);
    address.accept_invalid_certs = config.accept_invalid_certs;
    address.tls_server_name.clone_from(&config.tls_server_name);
    address
}

fn with_deadlines(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(ANSWER);
    // A connection that was idle must not count as one that doesn't answer.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config
}

/// A client whose requests carry that header. Each is a request of this user alone, whatever connection it takes.
fn authorized(connections: Client, namespace: String, authorization: HeaderValue) -> Client {
    let service = service_fn(move |mut request: Request<Body>| {
        request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        let connections = connections.clone();
        async move { connections.send(request).await }
    });
    Client::new(service, namespace)
}

/// A signed-in user's way to the API server. Cheap to clone.
#[derive(Clone)]
pub struct UserClient(Cluster);

impl UserClient {
    /// The only way to a client: with what a user signed in with.
    pub fn new(sign_in: SignIn, system_namespace: &str) -> Result<Self, SignInError> {
        let SignIn(means) = sign_in;
        let (client, namespace) = match means {
            SignInMeans::Kubeconfig(config) => {
                let namespace = config.default_namespace.clone();
                let client = Client::try_from(with_deadlines(*config)).map_err(SignInError::Client)?;
                (client, namespace)
            }
            SignInMeans::Token { connections, namespace, authorization } => {
                (authorized(connections, namespace.clone(), authorization), namespace)
            }
        };
        Ok(Self(Cluster { client, namespace, system_namespace: system_namespace.to_owned() }))
    }

    /// A user of a simulated API server.
    #[cfg(test)]
    pub fn simulated(cluster: Cluster) -> Self {
        Self(cluster)
    }

    /// The cluster, as this user.
    pub fn cluster(&self) -> &Cluster {
        &self.0
    }

    /// The API server, as this user.
    pub fn client(&self) -> Client {
        self.0.client.clone()
    }

    /// Who this is, in the API server's words.
    pub async fn name(&self) -> Result<String, kube::Error> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
        let user = review.status.and_then(|status| status.user_info);
        Ok(user.and_then(|user| user.username).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use kube::{client::AuthError, config::AuthInfo};
    use serde_json::json;

    use super::*;

    #[test]
    fn address_holds_no_credentials() {
        let mut config = Config::new("https://10.0.0.1".parse().unwrap());
        config.auth_info.token = Some("OWN".into());
        config.auth_info.token_file = Some("/own".to_owned());
        config.auth_info.impersonate = Some("own".to_owned());
        config.headers = vec![(http::header::AUTHORIZATION, http::HeaderValue::from_static("Bearer OWN"))];
        let address = without_credentials(&config);
        let nobody = format!("{:?}", AuthInfo::default());
        assert_eq!(format!("{:?}", address.auth_info), nobody);
        assert!(address.headers.is_empty());
    }

    /// Answers with the token that a request carries.
    async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let token = request.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
        let review = json!({"metadata": {}, "status": {"userInfo": {"username": token}}});
        Ok(Response::new(Body::from(review.to_string().into_bytes())))
    }

    #[tokio::test]
    async fn users_share_connections_and_nothing_else() {
        let server = ApiServerAddress::simulated(Client::new(service_fn(echo), "default"));
        let user = |token| {
            let sign_in = server.sign_in(&BearerToken::pasted(token).unwrap());
            UserClient::new(sign_in, "registry-system").unwrap()
        };
        let (ann, bob) = (user("anns"), user("bobs"));
        for _ in 0..2 {
            assert_eq!(ann.name().await.unwrap(), "Bearer anns");
            assert_eq!(bob.name().await.unwrap(), "Bearer bobs");
        }
    }

    #[test]
    fn error_holds_no_output_of_exec_plugins() {
        let error = kube::Error::Auth(AuthError::AuthExec("token=HUSH".to_owned()));
        let error = SignInError::Client(error).to_string();
        assert!(error.contains("kubectl get --raw /version") && !error.contains("HUSH"), "{error}");
    }
}
