{{/* Names that are the same in every release are written out: pods of bridges look for the AI Core by name. */}}

{{- define "auralink.operator.name" -}}
{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "auralink.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "auralink.labelsBesideSelector" . }}
{{- end }}

{{/* A selector has the instance already, and no key may stand twice. */}}
{{- define "auralink.labelsBesideSelector" -}}
app.kubernetes.io/part-of: auralink
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "auralink.operator.selector" -}}
app.kubernetes.io/name: auralink-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "auralink.aiCore.selector" -}}
app.kubernetes.io/name: auralink-ai-core
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "auralink.image" -}}
{{ .image | default (printf "localhost/auralink-%s:%s" .part .root.Chart.AppVersion) }}
{{- end }}

{{- define "auralink.aiCore.address" -}}
{{- if .Values.aiCore.address -}}
{{ .Values.aiCore.address }}
{{- else if .Values.aiCore.enabled -}}
auralink-ai-core.{{ .Release.Namespace }}.svc:50051
{{- else -}}
{{ fail "aiCore.enabled is false: set aiCore.address to the host:port of your AI Core" }}
{{- end -}}
{{- end }}

{{- define "auralink.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "auralink.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "auralink.operator.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace (include "auralink.operator.name" .) }}
{{- end }}

{{/* The operator appends a shard's name by itself. */}}
{{- define "auralink.operator.lease" -}}
{{ include "auralink.operator.name" . }}{{ with .Values.operator.shard }}-{{ . }}{{ end }}
{{- end }}

{{/* Whether a kind of the Prometheus operator is to be made: a dict of `switch`, `kind` and `root`. */}}
{{- define "auralink.monitored" -}}
{{- if or (eq .switch "Enabled") (and (eq .switch "Auto") (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind))) -}}
true
{{- end -}}
{{- end }}

{{/* What the operator may do in a namespace it watches, each verb because it uses it: everything is read by name where
     the watch lags; children are applied, and pruned (a Deployment never is); a pod gets its deletion cost; a bridge the
     drain finalizer. It holds what it grants to pods (configmaps get list watch, auralinkbridges/status patch), so it needs
     neither escalate nor bind. No Secret, no wildcard. */}}
{{- define "auralink.operator.rules" -}}
- apiGroups: [auralink.io]
  resources: [auralinkbridges]
  verbs: [get, list, watch, patch]
- apiGroups: [auralink.io]
  resources: [roompolicies]
  verbs: [get, list, watch]
- apiGroups: [auralink.io]
  resources: [auralinkbridges/status, roompolicies/status]
  verbs: [patch]
- apiGroups: [auralink.io]
  # Owner references that block the deletion of their owner ask for it where the API server enforces that.
  resources: [auralinkbridges/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [serviceaccounts, configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
