//! The tools, and the sources of each.

/// A program that is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Tool {
    /// The store.
    Etcd,
    /// The Kubernetes API.
    KubeApiserver,
    /// An OCI registry. A program of ours on distribution's packages: without its storage in clouds.
    Registry,
    /// Garbage collection, namespace deletion, service accounts.
    KubeControllerManager,
    /// Renders and installs the chart.
    Helm,
    /// The API of the oldest Kubernetes that is supported.
    #[value(name = "kube-apiserver-1.30")]
    OldestKubeApiserver,
    /// A client of OCI registries (go-containerregistry).
    Crane,
    /// What users type; runs the plugin, and builds kustomizations.
    Kubectl,
    /// Health by Flux (kstatus), and strict parsing of Flux's kinds. A program of this project on Flux's libraries.
    FluxHealth,
    /// Health by Argo CD, and strict parsing of Applications. A program of this project on Argo CD's libraries.
    ArgoHealth,
    /// Reads and evaluates PromQL and alerting rules. A program of ours on Prometheus's libraries.
    PrometheusRules,
    /// CUE's OCI registry. A program of ours on its library.
    Ociregistry,
    /// The token service of distribution 2.8, as a server in front of a registry.
    TokenServer,
    /// Gitea, with its container registry.
    Gitea,
    /// Docker configurations, certificates and bundles as Go's readers read them. A program of ours on the kubelet's and Docker's.
    GoReaders,
    /// Runs the Pods of a node.
    Kubelet,
    /// Gives each Pod its node.
    KubeScheduler,
    /// Services.
    KubeProxy,
    /// Images and containers.
    Containerd,
    /// What containerd starts each Pod with.
    #[value(name = "containerd-shim-runc-v2")]
    ContainerdShim,
    /// containerd's own client.
    Ctr,
    /// The Pods' network.
    Bridge,
    /// The Pods' addresses.
    HostLocal,
    /// The Pods' loopback.
    Loopback,
}

/// Where Kubernetes keeps the version that it reports.
const KUBERNETES_VERSION: &str = "-X k8s.io/component-base/version.gitVersion={version} \
     -X k8s.io/component-base/version.gitMajor={major} -X k8s.io/component-base/version.gitMinor={minor}";

impl Tool {
    /// All of them, in the order in which they are needed.
    pub const ALL: [Self; 14] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::Registry,
        Self::KubeControllerManager,
        Self::Helm,
        Self::OldestKubeApiserver,
        Self::Crane,
        Self::Kubectl,
        Self::FluxHealth,
        Self::ArgoHealth,
        Self::PrometheusRules,
        Self::Ociregistry,
        Self::TokenServer,
        Self::GoReaders,
    ];

    /// Registry servers that take minutes to build; built only by the tests of `make test-servers`.
    pub const SERVERS: [Self; 1] = [Self::Gitea];

    /// What a node has besides; built only when one is started.
    pub const NODE: [Self; 9] = [
        Self::Kubelet,
        Self::KubeScheduler,
        Self::KubeProxy,
        Self::Containerd,
        Self::ContainerdShim,
        Self::Ctr,
        Self::Bridge,
        Self::HostLocal,
        Self::Loopback,
    ];

    /// The program's file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::Registry => "registry",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Helm => "helm",
            Self::OldestKubeApiserver => "kube-apiserver-1.30",
            Self::Crane => "crane",
            Self::Kubectl => "kubectl",
            Self::FluxHealth => "flux-health",
            Self::ArgoHealth => "argo-health",
            Self::PrometheusRules => "prometheus-rules",
            Self::Ociregistry => "ociregistry",
            Self::TokenServer => "token-server",
            Self::Gitea => "gitea",
            Self::GoReaders => "go-readers",
            Self::Kubelet => "kubelet",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeProxy => "kube-proxy",
            Self::Containerd => "containerd",
            Self::ContainerdShim => "containerd-shim-runc-v2",
            Self::Ctr => "ctr",
            Self::Bridge => "bridge",
            Self::HostLocal => "host-local",
            Self::Loopback => "loopback",
        }
    }

    /// The directory below `tests/tools` with the module that pins it: its own, or one for all programs of a project.
    pub(super) fn module(self) -> &'static str {
        match self {
            Self::Kubelet | Self::KubeScheduler | Self::KubeProxy => "kube-node",
            Self::Containerd | Self::ContainerdShim | Self::Ctr => "containerd",
            Self::Bridge | Self::HostLocal | Self::Loopback => "cni-plugins",
            _ => self.name(),
        }
    }

    /// The package that the pin is of; that of its `main`, unless the tool is a program of ours.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver | Self::OldestKubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::Registry => "github.com/distribution/distribution/v3/registry",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
            Self::Crane => "github.com/google/go-containerregistry/cmd/crane",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::FluxHealth => "github.com/fluxcd/cli-utils/pkg/kstatus/status",
            Self::ArgoHealth => "github.com/argoproj/argo-cd/v3/util/lua",
            Self::PrometheusRules => "github.com/prometheus/prometheus/model/rulefmt",
            Self::Ociregistry => "cuelabs.dev/go/oci/ociregistry/ociserver",
            Self::TokenServer => "github.com/docker/distribution/contrib/token-server",
            Self::Gitea => "code.gitea.io/gitea",
            Self::GoReaders => "k8s.io/kubernetes/pkg/credentialprovider",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::Containerd => "github.com/containerd/containerd/v2/cmd/containerd",
            Self::ContainerdShim => "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            Self::Ctr => "github.com/containerd/containerd/v2/cmd/ctr",
            Self::Bridge => "github.com/containernetworking/plugins/plugins/main/bridge",
            Self::HostLocal => "github.com/containernetworking/plugins/plugins/ipam/host-local",
            Self::Loopback => "github.com/containernetworking/plugins/plugins/main/loopback",
        }
    }

    /// The arguments of `go build`.
    pub(super) fn target(self) -> &'static str {
        if self.is_ours() { "." } else { self.package() }
    }

    /// The Go file beside the pins: our program, which may have more of them, or the import of someone else's.
    pub fn source(self) -> &'static str {
        if self.is_ours() { "main.go" } else { "tools.go" }
    }

    fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Registry
                | Self::FluxHealth
                | Self::ArgoHealth
                | Self::PrometheusRules
                | Self::Ociregistry
                | Self::GoReaders
        )
    }

    /// Whether it is linked with C: Gitea's SQLite is.
    pub(super) fn needs_c(self) -> bool {
        matches!(self, Self::Gitea)
    }

    /// The linker flags that set the program's version.
    pub(super) fn version_flags(self) -> &'static str {
        match self {
            Self::Etcd
            | Self::Crane
            | Self::FluxHealth
            | Self::ArgoHealth
            | Self::PrometheusRules
            | Self::Ociregistry
            | Self::TokenServer
            | Self::GoReaders
            | Self::Bridge
            | Self::HostLocal
            | Self::Loopback => "",
            Self::Gitea => "-X main.Version={version}",
            Self::KubeApiserver
            | Self::OldestKubeApiserver
            | Self::KubeControllerManager
            | Self::Kubectl
            | Self::Kubelet
            | Self::KubeScheduler
            | Self::KubeProxy => KUBERNETES_VERSION,
            Self::Containerd | Self::ContainerdShim | Self::Ctr => {
                "-X github.com/containerd/containerd/v2/version.Version={version}"
            }
            Self::Registry => "-X github.com/distribution/distribution/v3/version.version={version}",
            Self::Helm => "-X helm.sh/helm/v4/internal/version.version={version}",
        }
    }

    /// What is left out of the build, or taken in.
    pub(super) fn build_tags(self) -> &'static str {
        match self {
            // The API servers of that time could be built without the clouds' SDKs: two fifths of what is compiled.
            Self::OldestKubeApiserver => "providerless",
            Self::Gitea => "sqlite,sqlite_unlock_notify",
            _ => "",
        }
    }

    /// How long the first build takes, measured on 4 cores.
    pub fn expected_build_time(self) -> &'static str {
        match self {
            // The first of them compiles what they share.
            Self::KubeApiserver | Self::OldestKubeApiserver | Self::Helm => "2 to 4 minutes",
            Self::Etcd
            | Self::Registry
            | Self::KubeControllerManager
            | Self::Crane
            | Self::Kubectl
            | Self::FluxHealth
            | Self::ArgoHealth
            | Self::PrometheusRules
            | Self::Ociregistry
            | Self::TokenServer
            | Self::GoReaders
            | Self::Kubelet
            | Self::KubeScheduler
            | Self::KubeProxy
            | Self::Containerd => "less than a minute, or a few if it is the first",
            Self::Gitea => "about 10 minutes",
            Self::ContainerdShim | Self::Ctr | Self::Bridge | Self::HostLocal | Self::Loopback => {
                "some seconds"
            }
        }
    }

    /// What to do without Go, besides installing it.
    pub(super) fn alternative(self) -> &'static str {
        if self.is_kubebuilder_asset() {
            ", or set KUBEBUILDER_ASSETS to a directory that holds etcd and kube-apiserver"
        } else {
            ""
        }
    }

    /// Whether `KUBEBUILDER_ASSETS` is looked into.
    pub(super) fn is_kubebuilder_asset(self) -> bool {
        matches!(self, Self::Etcd | Self::KubeApiserver | Self::KubeControllerManager | Self::Kubectl)
    }
}
