{{/*
Names, labels and selectors don't depend on the release name: policies, role bindings and documentation refer to them, a cluster
has one operator, and a Deployment's selector can't be changed when another release takes over the objects.
*/}}

{{- define "registry-operator.selectorLabels" -}}
app.kubernetes.io/name: registry-operator
app.kubernetes.io/instance: registry-operator
{{- end }}

{{- define "registry-operator.testLabels" -}}
app.kubernetes.io/name: registry-operator-test
app.kubernetes.io/instance: registry-operator
{{- end }}

{{- define "registry-operator.labels" -}}
{{ include "registry-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with omit .Values.commonLabels "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
Annotations of objects that must stay when the chart is uninstalled, because registries or their protection depend on them: for Helm,
Argo CD (when it prunes, and when the Application is deleted), Flux' Kustomization and ResourceSet, Config Sync.
*/}}
{{- define "registry-operator.kept" -}}
helm.sh/resource-policy: keep
argocd.argoproj.io/sync-options: Prune=false,Delete=false
client.lifecycle.config.k8s.io/deletion: detach
fluxcd.controlplane.io/prune: disabled
kustomize.toolkit.fluxcd.io/prune: disabled
{{- end }}

{{- define "registry-operator.serviceAccount" -}}
- kind: ServiceAccount
  name: registry-operator
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The user name of the operator's account. */}}
{{- define "registry-operator.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:registry-operator
{{- end }}

{{/*
The object of a request. A deletion has only the old object.
*/}}
{{- define "registry-operator.cel.subject" -}}
(request.operation == 'DELETE' ? oldObject : object)
{{- end }}

{{/* Whether the user has the verb administer, for all names: a role with resourceNames doesn't count. */}}
{{- define "registry-operator.cel.administers" -}}
authorizer.group('registry.spectrocloud.com').resource('systemregistries').check('administer').allowed()
{{- end }}

{{/* Who that is, for messages. */}}
{{- define "registry-operator.cel.whoAdministers" -}}
only users with the verb administer on systemregistries
{{- end }}

{{/*
Whether a namespace is a system namespace, which can't belong to a tenant whatever its labels: the operator's own, and those with a
prefix that Kubernetes or OpenShift reserves. Argument: a list of the context and the expression for the namespace's name.
src/tenancy/access/system_namespace.rs has the same rule.
*/}}
{{- define "registry-operator.cel.isSystemNamespace" -}}
({{ last . }} in ['{{ (first .).Release.Namespace }}', 'openshift'] || {{ last . }}.startsWith('kube-') || {{ last . }}.startsWith('openshift-'))
{{- end }}

{{/* Whether the request's namespace belongs to a tenant. An empty label value doesn't name a tenant. */}}
{{- define "registry-operator.cel.inTenantNamespace" -}}
(namespaceObject.metadata.?labels[?'registry.spectrocloud.com/tenant'].orValue('') != '' && !{{ include "registry-operator.cel.isSystemNamespace" (list . "request.namespace") }})
{{- end }}

{{/* Why it doesn't, for messages. */}}
{{- define "registry-operator.cel.isNoTenants" -}}
({{ include "registry-operator.cel.isSystemNamespace" (list . "request.namespace") }} ? ' is a system namespace' : ' has no label registry.spectrocloud.com/tenant')
{{- end }}

{{/*
Variables of the policies for registries: which parts an update doesn't change. managedFields depend on the other fields.
*/}}
{{- define "registry-operator.cel.unchanged" -}}
- name: subresource
  expression: request.?subResource.orValue('')
- name: finalizers
  expression: object.metadata.?finalizers.orValue([])
- name: oldFinalizers
  expression: oldObject.metadata.?finalizers.orValue([])
- name: onlyFinalizers
  expression: >-
    request.operation == 'UPDATE' && variables.subresource == '' && object.?spec == oldObject.?spec &&
    object.metadata.?labels == oldObject.metadata.?labels &&
    object.metadata.?annotations == oldObject.metadata.?annotations &&
    object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences
{{- end }}

{{/* The annotation requestedAt must be short, because it is part of every list and watch event. */}}
{{- define "registry-operator.cel.shortRequest" -}}
- expression: >-
    request.operation == 'DELETE' || variables.subresource != '' ||
    object.metadata.?annotations[?'registry.spectrocloud.com/requestedAt'].orValue('').size() <= 253 ||
    (request.operation == 'UPDATE' && object.metadata.?annotations[?'registry.spectrocloud.com/requestedAt'] ==
    oldObject.metadata.?annotations[?'registry.spectrocloud.com/requestedAt'])
  reason: Invalid
  message: >-
    The annotation registry.spectrocloud.com/requestedAt must have at most 253 characters; use a short value such as the
    time
{{- end }}

{{/* Variables: whether the operator makes the request, and whether only its own finalizer changes. */}}
{{- define "registry-operator.cel.operator" -}}
- name: isOperator
  expression: request.userInfo.username == '{{ include "registry-operator.user" . }}'
- name: isOwnFinalizer
  expression: >-
    variables.onlyFinalizers &&
    variables.finalizers.filter(f, f != 'registry.spectrocloud.com/cleanup') ==
    variables.oldFinalizers.filter(f, f != 'registry.spectrocloud.com/cleanup')
{{- end }}

{{/*
Variables of the policies for other objects that the operator writes: the operator doesn't add metadata that other controllers act on,
such as finalizers, owners, or an annotation that has a Secret copied. Not for deletions.
*/}}
{{- define "registry-operator.cel.plainMetadata" -}}
- name: keepsFinalizers
  expression: >-
    object.metadata.?finalizers.orValue([]) == (request.operation == 'UPDATE' ? oldObject.metadata.?finalizers.orValue([]) : [])
- name: keepsLabels
  expression: >-
    object.metadata.?labels.orValue({}).all(key, key.startsWith('registry.spectrocloud.com/') || key.startsWith('app.kubernetes.io/') ||
    (request.operation == 'UPDATE' && oldObject.metadata.?labels[?key] == object.metadata.?labels[?key]))
- name: keepsAnnotations
  expression: >-
    object.metadata.?annotations.orValue({}).all(key, key.startsWith('registry.spectrocloud.com/') ||
    (request.operation == 'UPDATE' && oldObject.metadata.?annotations[?key] == object.metadata.?annotations[?key]))
- name: isPlain
  expression: variables.keepsFinalizers && variables.keepsLabels && variables.keepsAnnotations
{{- end }}

{{/* The validation that uses these variables. */}}
{{- define "registry-operator.cel.isPlain" -}}
- expression: request.operation == 'DELETE' || variables.isPlain
  reason: Forbidden
  message: >-
    The operator may set only its own labels and annotations, and no finalizers
{{- end }}

{{/* Matches only requests of the operator's account. */}}
{{- define "registry-operator.cel.byOperator" -}}
- name: by-the-operator
  expression: request.userInfo.username == '{{ include "registry-operator.user" . }}'
{{- end }}

{{/* The names of all policies, and of their bindings. The operator checks these (src/kubernetes/guard/policies.rs). */}}
{{- define "registry-operator.policies" -}}
definitions.registry.spectrocloud.com
installation.registry.spectrocloud.com
operator-events.registry.spectrocloud.com
operator-leases.registry.spectrocloud.com
operator-role-bindings.registry.spectrocloud.com
operator-secrets.registry.spectrocloud.com
operator-services.registry.spectrocloud.com
system-registries.registry.spectrocloud.com
tenant-labels.registry.spectrocloud.com
tenant-policy-on-update.registry.spectrocloud.com
tenant-policy.registry.spectrocloud.com
tenant-registries.registry.spectrocloud.com
{{- end }}

{{/* A binding with the action Deny. */}}
{{- define "registry-operator.denies" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}.registry.spectrocloud.com
  labels:
    {{- include "registry-operator.labels" .root | nindent 4 }}
  {{- if .kept }}
  annotations:
    {{- include "registry-operator.kept" .root | nindent 4 }}
  {{- end }}
spec:
  policyName: {{ .policy | default .name }}.registry.spectrocloud.com
  validationActions: [Deny]
{{- end }}
