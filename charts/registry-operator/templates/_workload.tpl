{{/*
Parts that the operator's Pods, the Pod of `helm test` and the monitors share.
*/}}

{{- /* The chart's labels and more of them. Argument: a list of the context and those labels, which can't change the selector's labels. */}}
{{- define "registry-operator.labelsWith" -}}
{{- $further := omit (last .) "app.kubernetes.io/name" "app.kubernetes.io/instance" }}
{{- toYaml (merge $further (fromYaml (include "registry-operator.labels" (first .)))) }}
{{- end }}

{{- define "registry-operator.image" -}}
{{- with .Values.image }}
{{- .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{- /* Where the operator's Pods and the Pod of `helm test` can run, and with which pull Secrets. */}}
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
