{{/*
Names do not depend on the release's: policies, role bindings and documentation refer to them, and a cluster has one
operator.
*/}}

{{- define "registry-operator.selectorLabels" -}}
app.kubernetes.io/name: registry-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "registry-operator.testLabels" -}}
app.kubernetes.io/name: registry-operator-test
app.kubernetes.io/instance: {{ .Release.Name }}
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

{{- define "registry-operator.serviceAccount" -}}
- kind: ServiceAccount
  name: registry-operator
  namespace: {{ .Release.Namespace }}
{{- end }}
