{{/* What the operator may do in the cluster. `list` is for API servers that do not stream lists. */}}
{{- define "sluice.clusterRules" -}}
# Whom it serves: finalizers are patched, the address is written to the status.
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [services/status]
  verbs: [patch]
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
  resources: [nodes, namespaces]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
# What people write: read it, report on it.
- apiGroups: [sluice.io]
  resources: [loadbalancers, addresspools]
  verbs: [list, watch]
- apiGroups: [sluice.io]
  resources: [loadbalancers/status, addresspools/status]
  verbs: [patch]
# What Sluice writes itself.
- apiGroups: [sluice.io]
  resources: [addressclaims]
  verbs: [list, watch, create, update, delete]
- apiGroups: [sluice.io]
  resources: [loadbalancernodes]
  verbs: [list, watch, create, delete]
- apiGroups: [sluice.io]
  resources: [loadbalancernodes/status]
  verbs: [patch]
{{- end }}

{{/* What it may do in its own namespace: with these objects and no others. */}}
{{- define "sluice.namespaceRules" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ include "sluice.caSecret" . }}, {{ include "sluice.operatorSecret" . }}, {{ include "sluice.agentSecret" . }}]
  verbs: [list, watch, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "sluice.operator" . }}]
  verbs: [get, update]
{{- end }}

{{/* What the job before an uninstall may do in the cluster. */}}
{{- define "sluice.cleanupClusterRules" -}}
# Where the agents are; the cluster's identity (the UID of kube-system).
- apiGroups: [""]
  resources: [nodes]
  verbs: [list]
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
# Addresses and finalizers are taken off.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, patch]
- apiGroups: [""]
  resources: [services/status]
  verbs: [patch]
# Which addresses are Sluice's.
- apiGroups: [sluice.io]
  resources: [addressclaims]
  verbs: [list]
# What people wrote stays; its status says that Sluice is gone.
- apiGroups: [sluice.io]
  resources: [loadbalancers, addresspools]
  verbs: [list]
- apiGroups: [sluice.io]
  resources: [loadbalancers/status, addresspools/status]
  verbs: [patch]
- apiGroups: [sluice.io]
  resources: [loadbalancernodes]
  verbs: [list, delete]
{{- end }}

{{/* And in its own namespace. */}}
{{- define "sluice.cleanupNamespaceRules" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ include "sluice.operatorSecret" . }}]
  verbs: [get]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "sluice.operator" . }}]
  verbs: [get, update]
{{- end }}
