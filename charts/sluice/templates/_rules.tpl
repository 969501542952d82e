{{/* What the operator may do in the cluster. */}}
{{- define "sluice.clusterRules" -}}
# Whom it serves: finalizers and annotations are patched, the address is written to the status.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [services/status]
  verbs: [patch, update]
# Where it leads.
{{- if eq .Values.endpointsSource "endpoints" }}
- apiGroups: [""]
  resources: [endpoints]
  verbs: [list, watch]
{{- else }}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- end }}
# Ranges that no pool may overlap.
- apiGroups: [networking.k8s.io]
  resources: [servicecidrs]
  verbs: [list, watch]
# Which nodes there are; pools' namespace selectors; the cluster's identity (the UID of kube-system).
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
# What people write: read it, report on it, hold it until it is torn down.
- apiGroups: [sluice.io]
  resources: [loadbalancers, addresspools]
  verbs: [get, list, watch, patch]
- apiGroups: [sluice.io]
  resources: [loadbalancers/status, addresspools/status]
  verbs: [patch, update]
# What Sluice writes itself.
- apiGroups: [sluice.io]
  resources: [addressclaims, loadbalancernodes]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [sluice.io]
  resources: [addressclaims/status, loadbalancernodes/status]
  verbs: [patch, update]
{{- end }}

{{/* What it may do in its own namespace: with these objects and no others. */}}
{{- define "sluice.namespaceRules" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ include "sluice.caSecret" . }}, {{ include "sluice.operatorSecret" . }}, {{ include "sluice.agentSecret" . }}]
  verbs: [get, list, watch, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "sluice.operator" . }}]
  verbs: [get, update, patch]
{{- end }}
