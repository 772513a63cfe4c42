{{/*
Parts that the operator's Pods, the console's Pod, the Pod of `helm test` and the monitors share.
*/}}

{{- /* The chart's labels and more of them. Argument: a list of the context and those labels, which can't change the selector's labels. */}}
{{- define "registry-operator.labelsWith" -}}
{{- $further := omit (last .) "app.kubernetes.io/name" "app.kubernetes.io/instance" }}
{{- toYaml (merge $further (fromYaml (include "registry-operator.labels" (first .)))) }}
{{- end }}

{{- /* The reference of an image. Argument: a list of the context and the image's values. */}}
{{- define "registry-operator.image" -}}
{{- with last . }}
{{- .repository }}:{{ .tag | default (first $).Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{- /* Flags of the operator and of the console: how registries, token services and AWS are reached. */}}
{{- define "registry-operator.reach" -}}
{{- $proxied := or .Values.proxy.url .Values.proxy.urlSecretRef.name }}
{{- $noProxy := kindIs "string" .Values.proxy.noProxy | ternary .Values.proxy.noProxy (join "," .Values.proxy.noProxy) }}
{{- range .Values.egress.allow }}
- --egress-allow={{ . }}
{{- end }}
{{- range .Values.egress.deny }}
- --egress-deny={{ . }}
{{- end }}
{{- range .Values.egress.serviceCIDRs }}
- --service-cidr={{ . }}
{{- end }}
{{- range .Values.trustedTokenServices }}
- --trusted-token-service={{ . }}
{{- end }}
{{- with .Values.proxy.url }}
- --proxy={{ . }}
{{- end }}
{{- if and $proxied $noProxy }}
- {{ printf "--no-proxy=%s" $noProxy | quote }}
{{- end }}
{{- if .Values.caBundle.configMapRef.name }}
- --ca-file=/etc/registry-operator/ca/ca.crt
{{- end }}
{{- end }}

{{- /* The proxy's URL from a Secret. Argument: a list of the context and the variable's name. */}}
{{- define "registry-operator.proxyVariable" -}}
{{- with (first .).Values.proxy.urlSecretRef }}
{{- if .name }}
- name: {{ last $ }}
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- end }}

{{- define "registry-operator.caVolumeMount" -}}
{{- if .Values.caBundle.configMapRef.name }}
# The whole directory, because the kubelet doesn't update a single file (subPath).
- name: ca-bundle
  mountPath: /etc/registry-operator/ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "registry-operator.caVolume" -}}
{{- with .Values.caBundle.configMapRef }}
{{- if .name }}
- name: ca-bundle
  configMap:
    name: {{ .name }}
    defaultMode: 420
    items:
      - key: {{ .key }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end }}

{{- /* How Pods look up names. */}}
{{- define "registry-operator.dns" -}}
dnsPolicy: {{ .Values.dnsPolicy | default "ClusterFirst" }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Where the Pods can run, and with which pull Secrets. */}}
{{- define "registry-operator.scheduling" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* Metadata of the Pod of `helm test`. It stays out of service meshes, because it would never finish with a sidecar. */}}
{{- define "registry-operator.testMetadata" -}}
labels:
  {{- toYaml (merge (fromYaml (include "registry-operator.testLabels" .)) .Values.helmTest.podLabels) | nindent 2 }}
annotations:
  {{- with .Values.helmTest.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  helm.sh/hook: test
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "registry-operator.scrape" -}}
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "registry-operator.consoleSelectorLabels" -}}
app.kubernetes.io/name: registry-console
app.kubernetes.io/instance: registry-operator
{{- end }}

{{- /* The console's labels and more of them. The operator's selectors don't match them. Argument: a list of the context and those labels. */}}
{{- define "registry-operator.consoleLabels" -}}
{{- $own := fromYaml (include "registry-operator.consoleSelectorLabels" (first .)) }}
{{- toYaml (merge $own (last .) (fromYaml (include "registry-operator.labels" (first .)))) }}
{{- end }}

{{- /* The name of the console's port: what it serves there. */}}
{{- define "registry-operator.consolePort" -}}
{{ .Values.console.behindTLSProxy | ternary "http" "https" }}
{{- end }}
