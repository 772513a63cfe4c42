//! Control planes with config/install.yaml as it is shipped, and their users: one with too broad
//! permissions but without `administer`, one with it, and tenants. Has no assertions about policies.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{
    ControlPlane, ControlPlaneOptions, Kubernetes, Operator, OperatorOptions, eventually, in_repository,
    manifests::{self, Placeholders},
    policies_are_in_force,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::call::{Call, User, a_namespace};

/// Where the chart puts the operator.
pub const SYSTEM_NAMESPACE: &str = "registry-system";
/// The account that the chart makes for it.
pub const SERVICE_ACCOUNT: &str = "registry-operator";

/// A control plane with all that is shipped, save for the operator itself.
pub struct Stage {
    control_plane: ControlPlane,
    /// The operator, where it runs.
    _operator: Option<Operator>,
}

impl Stage {
    /// The control plane of that Kubernetes, without an operator. Started once.
    pub async fn on(kubernetes: Kubernetes) -> Result<&'static Self> {
        static NEWEST: OnceCell<Stage> = OnceCell::const_new();
        static OLDEST: OnceCell<Stage> = OnceCell::const_new();
        let cell = match kubernetes {
            Kubernetes::Newest => &NEWEST,
            Kubernetes::Oldest => &OLDEST,
        };
        cell.get_or_try_init(|| Self::start(kubernetes)).await
    }

    /// Another one of that Kubernetes, for tests that change what tenants may ask for. Started once.
    async fn to_change_parameters(kubernetes: Kubernetes) -> Result<&'static Self> {
        static NEWEST: OnceCell<Stage> = OnceCell::const_new();
        static OLDEST: OnceCell<Stage> = OnceCell::const_new();
        let cell = match kubernetes {
            Kubernetes::Newest => &NEWEST,
            Kubernetes::Oldest => &OLDEST,
        };
        cell.get_or_try_init(|| Self::start(kubernetes)).await
    }

    /// A control plane on which the operator runs. Started once.
    async fn with_operator() -> Result<&'static Self> {
        static SHARED: OnceCell<Stage> = OnceCell::const_new();
        SHARED
            .get_or_try_init(async || {
                let stage = Self::start(Kubernetes::Newest).await?;
                let operator = Operator::start(stage.operator_options().await?).await?;
                Ok(Self { _operator: Some(operator), ..stage })
            })
            .await
    }

    /// A control plane of one's own.
    pub async fn start(kubernetes: Kubernetes) -> Result<Self> {
        let stage = Self::bare(kubernetes).await?;
        let client = stage.control_plane.client().await?;
        let shipped = manifests::read_file(&in_repository("config/install.yaml"), &Placeholders::default())?;
        manifests::apply(&client, shipped).await.context("applying config/install.yaml")?;
        policies_are_in_force(&client).await?;
        Ok(stage)
    }

    /// One on which nothing is installed yet.
    pub async fn bare(kubernetes: Kubernetes) -> Result<Self> {
        Self::bare_with(kubernetes, &[]).await
    }

    /// The same, with more flags for the API server.
    pub async fn bare_with(kubernetes: Kubernetes, flags: &[&str]) -> Result<Self> {
        let options = ControlPlaneOptions {
            kubernetes,
            controller_manager: true,
            api_server_flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            ..ControlPlaneOptions::default()
        };
        let control_plane = ControlPlane::start(options).await?;
        manifests::apply(&control_plane.client().await?, manifests::parse("the people", PEOPLE)?).await?;
        Ok(Self { control_plane, _operator: None })
    }

    /// The servers.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// How the operator is started: with the rights of the chart's service account and no others.
    pub async fn operator_options(&self) -> Result<OperatorOptions> {
        let kubeconfig =
            self.control_plane.kubeconfig_for_service_account(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
        Ok(OperatorOptions::new(env!("CARGO_BIN_EXE_operator-in-tests"), kubeconfig))
    }

    /// The operator's account, by a token of its own.
    pub async fn operator(&self) -> Result<User> {
        let client = self.control_plane.client_for_service_account(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
        Ok(User::new("the operator", client))
    }

    /// A user by that name.
    pub async fn user(&self, name: &str) -> Result<User> {
        Ok(User::new(name, self.control_plane.client_for_user(name, &[]).await?))
    }
}

/// Two users who may do everything to everything, by verbs that are spelled out; one holds `administer` too. The verbs by
/// which rights are given away (bind, escalate, impersonate) are left out: who has them has every right already.
const PEOPLE: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: far-too-broad}
rules:
- apiGroups: ["*"]
  resources: ["*"]
  verbs: [get, list, watch, create, update, patch, delete, deletecollection]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: far-too-broad}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: far-too-broad}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: broad}
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: administrator}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: administrators}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: registry-system-admin}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: administrator}
"#;

/// One test's way in: the people, as clients of the test's own runtime, and names that no other test uses.
pub struct Cluster {
    /// The control plane.
    pub stage: &'static Stage,
    /// Which Kubernetes that is.
    pub kubernetes: Kubernetes,
    number: usize,
    /// The cluster's administrator (`system:masters`).
    pub root: User,
    /// May do everything but `administer`.
    pub broad: User,
    /// May do the same, and `administer`.
    pub administrator: User,
}

impl Cluster {
    /// A control plane without an operator.
    pub async fn enter(kubernetes: Kubernetes) -> Result<Self> {
        Self::of(Stage::on(kubernetes).await?, kubernetes).await
    }

    /// Another control plane without an operator, for one who changes what tenants may ask for.
    pub async fn enter_to_change_parameters(kubernetes: Kubernetes) -> Result<Self> {
        Self::of(Stage::to_change_parameters(kubernetes).await?, kubernetes).await
    }

    /// A control plane on which the operator runs.
    pub async fn enter_with_operator() -> Result<Self> {
        Self::of(Stage::with_operator().await?, Kubernetes::Newest).await
    }

    async fn of(stage: &'static Stage, kubernetes: Kubernetes) -> Result<Self> {
        static TESTS: AtomicUsize = AtomicUsize::new(1);
        Ok(Self {
            stage,
            kubernetes,
            number: TESTS.fetch_add(1, Ordering::Relaxed),
            root: User::new("root", stage.control_plane.client().await?),
            broad: stage.user("broad").await?,
            administrator: stage.user("administrator").await?,
        })
    }

    /// A name that no other test uses.
    pub fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }

    /// A namespace of a tenant.
    pub async fn tenant_namespace(&self, name: &str) -> Result<String> {
        self.namespace(name, Some("team")).await
    }

    /// A namespace without a tenant.
    pub async fn plain_namespace(&self, name: &str) -> Result<String> {
        self.namespace(name, None).await
    }

    async fn namespace(&self, name: &str, tenant: Option<&str>) -> Result<String> {
        let name = self.unique(name);
        self.root.may(&Call::create("/api/v1/namespaces", a_namespace(&name, tenant))).await?;
        Ok(name)
    }

    /// Takes the tenant label off a namespace, or puts it on, and waits until the API server's policies know.
    pub async fn label(&self, namespace: &str, tenant: Option<&str>) -> Result<()> {
        let labels = json!({"metadata": {"labels": {registry_api::TENANT_LABEL: tenant}}});
        self.root.may(&Call::merge(&format!("/api/v1/namespaces/{namespace}"), labels)).await?;
        let collection = crate::call::tenant_registries(namespace);
        let probe = Call::create(&collection, crate::call::a_tenant_registry("probe")).dry();
        let look = || async {
            let refused = self.root.send(&probe).await?.is_err();
            ensure!(
                refused == tenant.is_none_or(str::is_empty),
                "the API server's view of the namespace is behind"
            );
            Ok(())
        };
        Ok(eventually("the label is known", look).await?)
    }

    /// A user who has a ClusterRole in one namespace.
    pub async fn user_with(&self, role: &str, namespace: &str) -> Result<User> {
        let name = self.unique(role);
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        let bindings = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
        self.root.may(&Call::create(&bindings, binding)).await?;
        let user = self.stage.user(&name).await?;
        // The controller manager aggregates the chart's roles, some moments after they were applied.
        let attributes = json!({
            "namespace": namespace, "verb": if role == "view" { "get" } else { "create" },
            "group": registry_api::GROUP, "resource": "tenantregistries",
        });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let may = Call::create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review);
        let read = Call::get(&format!("/api/v1/namespaces/{namespace}/configmaps"));
        let look = || async {
            ensure!(user.may(&may).await?["status"]["allowed"] == true, "not to registries yet");
            ensure!(user.send(&read).await?.is_ok(), "not yet");
            Ok(())
        };
        eventually(format!("{name} has its rights"), look).await?;
        Ok(user)
    }

    /// The object at that URL, as it is now.
    pub async fn read(&self, path: &str) -> Result<Value> {
        self.root.may(&Call::get(path)).await
    }

    /// Waits until there is nothing at that URL.
    pub async fn is_gone(&self, path: &str) -> Result<()> {
        let get = Call::get(path);
        let look = || async {
            match self.root.send(&get).await? {
                Err((404, _)) => Ok(()),
                answer => anyhow::bail!("{answer:?}"),
            }
        };
        Ok(eventually(format!("{path} is gone"), look).await?)
    }
}
