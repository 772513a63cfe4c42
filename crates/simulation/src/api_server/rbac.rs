//! Who may do what, by the Roles and bindings in the store.

use serde_json::{Value, json};

use super::{
    refusal::ApiFailure,
    request::ApiCall,
    resources::index_of,
    state::{ApiAnswer, ServerState},
    store::StoreKey,
};

/// The user who may do everything.
pub const SUPERUSER: &str = "system:admin";
/// Members of this group may do everything; a user is in it by this prefix.
const MASTERS: &str = "system:masters";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// A question to RBAC.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccessRequest<'a> {
    pub user: &'a str,
    pub verb: &'a str,
    pub group: &'a str,
    /// With the subresource, after a slash.
    pub resource: &'a str,
    pub name: &'a str,
    pub namespace: &'a str,
}

impl AccessRequest<'_> {
    /// Returns the API server's explanation of a refusal.
    pub fn refusal(&self) -> String {
        let Self { user, verb, group, resource, namespace, .. } = self;
        let what = format!("User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\"");
        if namespace.is_empty() {
            format!("{what} at the cluster scope")
        } else {
            format!("{what} in the namespace \"{namespace}\"")
        }
    }
}

impl ServerState {
    /// Returns whether RBAC allows it.
    pub fn allows(&self, request: &AccessRequest<'_>) -> bool {
        if is_superuser(request.user) || is_for_everyone(request) {
            return true;
        }
        let groups = groups(request.user);
        let of_cluster = self.store.of(index_of("clusterrolebindings"), "").map(|(_, binding)| binding);
        let bindings = index_of("rolebindings");
        let of_namespace = self.store.of(bindings, request.namespace).map(|(_, binding)| binding);
        let of_namespace = of_namespace.filter(|_| !request.namespace.is_empty());
        of_cluster.chain(of_namespace).any(|binding| self.grants(binding, request, &groups))
    }

    fn grants(&self, binding: &Value, request: &AccessRequest<'_>, groups: &[String]) -> bool {
        let mut subjects = binding["subjects"].as_array().into_iter().flatten();
        if !subjects.any(|subject| is_subject(subject, request.user, groups)) {
            return false;
        }
        let role = self.role(binding);
        role.is_some_and(|role| {
            role["rules"].as_array().into_iter().flatten().any(|rule| covers(rule, request))
        })
    }

    /// Returns the role of a binding.
    fn role(&self, binding: &Value) -> Option<&Value> {
        let name = binding["roleRef"]["name"].as_str()?;
        let key = if binding["roleRef"]["kind"] == "ClusterRole" {
            StoreKey::new(index_of("clusterroles"), "", name)
        } else {
            StoreKey::new(index_of("roles"), binding["metadata"]["namespace"].as_str()?, name)
        };
        self.store.get(&key).map(|role| &**role)
    }

    /// A binding gives no rights that the user neither has nor may give.
    pub fn check_binding(&self, call: &ApiCall, old: Option<&Value>, new: &Value) -> Result<(), ApiFailure> {
        let is_binding = call.kind().kind.ends_with("RoleBinding");
        let says_the_same =
            old.is_some_and(|old| old["roleRef"] == new["roleRef"] && old["subjects"] == new["subjects"]);
        if !is_binding || says_the_same || is_superuser(&call.user) {
            return Ok(());
        }
        let (kind, name) = (&new["roleRef"]["kind"], new["roleRef"]["name"].as_str().unwrap_or_default());
        let resource = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
        let bind = AccessRequest {
            user: &call.user,
            verb: "bind",
            group: "rbac.authorization.k8s.io",
            resource,
            name,
            namespace: &call.namespace,
        };
        if self.allows(&bind) || self.holds_all(&call.user, &call.namespace, new) {
            return Ok(());
        }
        let why = format!(
            "user \"{}\" (groups={}) is attempting to grant RBAC permissions not currently held",
            call.user,
            json!(groups(&call.user))
        );
        let binding = new["metadata"]["name"].as_str().unwrap_or_default();
        Err(ApiFailure::forbidden(call.kind(), binding, &why))
    }

    /// Returns whether a user has all rights of a binding's role.
    fn holds_all(&self, user: &str, namespace: &str, binding: &Value) -> bool {
        let rules = self.role(binding).and_then(|role| role["rules"].as_array());
        rules.is_some_and(|rules| rules.iter().all(|rule| self.holds(user, namespace, rule)))
    }

    fn holds(&self, user: &str, namespace: &str, rule: &Value) -> bool {
        let names = texts(&rule["resourceNames"]);
        let names = if names.is_empty() { vec![""] } else { names };
        texts(&rule["verbs"]).into_iter().all(|verb| {
            texts(&rule["apiGroups"]).into_iter().all(|group| {
                texts(&rule["resources"]).into_iter().all(|resource| {
                    names.iter().all(|name| {
                        self.allows(&AccessRequest { user, verb, group, resource, name, namespace })
                    })
                })
            })
        })
    }

    /// Answers the reviews, which ask who a user is or what it may do.
    pub fn review(&self, call: &ApiCall) -> ApiAnswer {
        let status = match call.kind().kind {
            "SelfSubjectReview" => json!({"userInfo": self.user_info(&call.user)}),
            "SelfSubjectAccessReview" => self.access_status(&call.user, &call.body["spec"]),
            _ => {
                let user = call.body["spec"]["user"].as_str().unwrap_or_default();
                self.access_status(user, &call.body["spec"])
            }
        };
        let mut value = json!({
            "kind": call.kind().kind, "apiVersion": call.kind().api_version(),
            "metadata": {"creationTimestamp": self.now()}, "status": status,
        });
        if let Some(spec) = call.body.get("spec") {
            value["spec"] = spec.clone();
            value["metadata"] = json!({});
        }
        ApiAnswer::Value { code: 201, value }
    }

    fn access_status(&self, user: &str, spec: &Value) -> Value {
        let attributes = &spec["resourceAttributes"];
        let text = |field: &str| attributes[field].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            subresource => format!("{}/{subresource}", text("resource")),
        };
        let request = AccessRequest {
            user,
            verb: text("verb"),
            group: text("group"),
            resource: &resource,
            name: text("name"),
            namespace: text("namespace"),
        };
        json!({"allowed": self.allows(&request)})
    }

    fn user_info(&self, user: &str) -> Value {
        let mut info = json!({"username": user, "groups": groups(user)});
        if let Some((namespace, name)) = service_account(user) {
            let key = StoreKey::new(index_of("serviceaccounts"), namespace, name);
            if let Some(account) = self.store.get(&key) {
                info["uid"] = account["metadata"]["uid"].clone();
            }
        }
        info
    }
}

fn is_superuser(user: &str) -> bool {
    user == SUPERUSER
}

/// Everyone may ask who it is and what it may do.
fn is_for_everyone(request: &AccessRequest<'_>) -> bool {
    request.verb == "create" && matches!(request.resource, "selfsubjectreviews" | "selfsubjectaccessreviews")
}

fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')
}

fn groups(user: &str) -> Vec<String> {
    let mut groups = Vec::new();
    if is_superuser(user) {
        groups.push(MASTERS.to_owned());
    }
    if let Some((namespace, _)) = service_account(user) {
        groups.extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
    }
    groups.push("system:authenticated".to_owned());
    groups
}

fn is_subject(subject: &Value, user: &str, groups: &[String]) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str().unwrap_or_default() {
        "User" => name == user,
        "Group" => groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            service_account(user) == Some((subject["namespace"].as_str().unwrap_or_default(), name))
        }
        _ => false,
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn covers(rule: &Value, request: &AccessRequest<'_>) -> bool {
    let of = |field: &str| rule[field].as_array().into_iter().flatten();
    let has = |field: &str, value: &str| of(field).any(|its| its == "*" || its == value);
    let mut names = of("resourceNames").peekable();
    has("verbs", request.verb)
        && has("apiGroups", request.group)
        && (has("resources", request.resource) || covers_subresource(rule, request.resource))
        && (names.peek().is_none() || names.any(|name| name == request.name))
}

/// `*/status` covers the status of every resource.
fn covers_subresource(rule: &Value, resource: &str) -> bool {
    let Some((_, subresource)) = resource.split_once('/') else { return false };
    texts(&rule["resources"]).iter().any(|its| its.strip_prefix("*/") == Some(subresource))
}
