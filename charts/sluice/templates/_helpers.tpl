{{- define "sluice.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "sluice.labels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: sluice
{{- end }}

{{/* What a workload's selector is made of; these never change. Call with (list . "operator"). */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Names. The agent, the operator and their Secrets are named after the release only where it is not called sluice: what people
type in every guide stays the same. */}}
{{- define "sluice.name" -}}
{{- if contains "sluice" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-sluice" (.Release.Name | trunc 33 | trimSuffix "-") }}{{ end }}
{{- end }}
{{- define "sluice.operator" -}}{{ include "sluice.name" . }}-operator{{- end }}
{{- define "sluice.agent" -}}{{ include "sluice.name" . }}-agent{{- end }}
{{- define "sluice.cleanup" -}}{{ include "sluice.name" . }}-cleanup{{- end }}
{{- define "sluice.caSecret" -}}{{ include "sluice.name" . }}-ca{{- end }}
{{- define "sluice.operatorSecret" -}}{{ include "sluice.name" . }}-operator-tls{{- end }}
{{- define "sluice.agentSecret" -}}{{ include "sluice.name" . }}-agent-tls{{- end }}

{{- define "sluice.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Nothing that a container could do to its node: for the operator and the clean-up. */}}
{{- define "sluice.unprivilegedPod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "sluice.unprivilegedContainer" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Who the operator's process is, and where its objects are: shared by the operator and the clean-up. */}}
{{- define "sluice.operatorIdentity" -}}
env:
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}
{{- define "sluice.operatorArgs" -}}
- --namespace=$(POD_NAMESPACE)
- --identity=$(POD_NAME)
- --class={{ .Values.class }}
- --default-class={{ .Values.defaultClass }}
- --endpoints-source={{ .Values.endpointsSource }}
- --ignore-exclude-label={{ .Values.ignoreExcludeLabel }}
- --announce-grace={{ .Values.announceGrace }}
- --agent-port={{ .Values.agent.port }}
{{- with .Values.allowedStaticBackends }}
- --allowed-static-backends={{ join "," . }}
{{- end }}
- --tunnel-port={{ .Values.tunnel.port }}
- --tunnel-key-rotation={{ .Values.tunnel.keyRotation }}
- --lease-name={{ include "sluice.operator" . }}
- --ca-secret={{ include "sluice.caSecret" . }}
- --operator-secret={{ include "sluice.operatorSecret" . }}
- --agent-secret={{ include "sluice.agentSecret" . }}
- --log-level={{ .Values.log.level }}
- --log-format={{ .Values.log.format }}
{{- end }}

{{/* What `helm uninstall` runs first, and leaves nothing of when it went well. */}}
{{- define "sluice.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
