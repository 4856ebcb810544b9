{{- define "seesaw.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- /* A Service is named so: no dot, and no digit at the beginning. */ -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $release -}}{{- $release = printf "seesaw-%s" $release -}}{{- end -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name $release -}}
{{- $release | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" $release $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "seesaw.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- /* The name of what belongs to the whole cluster: two releases may have one name. */ -}}
{{- define "seesaw.clusterName" -}}
{{- printf "%s-%s" (include "seesaw.fullname" .) (include "seesaw.namespace" .) -}}
{{- end -}}

{{- define "seesaw.serviceAccount" -}}
{{- $default := ternary (include "seesaw.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end -}}

{{- define "seesaw.selector" -}}
app.kubernetes.io/name: seesaw-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- /* Labels of every object; call with (list . DICT), and what DICT says comes first. */ -}}
{{- define "seesaw.labelsWith" -}}
{{- $root := index . 0 -}}
{{- $ours := dict
  "app.kubernetes.io/name" "seesaw-operator"
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version) -}}
{{- merge (dict) (index . 1) $ours $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "seesaw.labels" -}}
{{- include "seesaw.labelsWith" (list . (dict)) -}}
{{- end -}}

{{- /* `annotations:` if there are any; call with (list . DICT). */ -}}
{{- define "seesaw.annotations" -}}
{{- with merge (dict) (index . 1) (index . 0).Values.commonAnnotations -}}
annotations: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "seesaw.podLabels" -}}
{{- $ours := include "seesaw.labels" . | fromYaml -}}
{{- merge (dict) $ours .Values.operator.podLabels | toYaml -}}
{{- end -}}

{{- /* Where the operator's pods are spread: what is given is about them unless it says otherwise. */ -}}
{{- define "seesaw.spread" -}}
{{- $given := .Values.operator.topologySpreadConstraints -}}
{{- if and (not $given) (gt (int .Values.operator.replicas) 1) -}}
{{- $soft := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- $given = list $soft -}}
{{- end -}}
{{- $ours := dict "labelSelector" (dict "matchLabels" (include "seesaw.selector" . | fromYaml)) -}}
{{- $all := list -}}
{{- range $given }}{{ $all = append $all (hasKey . "labelSelector" | ternary . (merge (dict) . $ours)) }}{{ end -}}
{{- with $all }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- define "seesaw.pullSecrets" -}}
{{- with .Values.images.pullSecrets -}}
imagePullSecrets: {{- range . }}{{ list (dict "name" .) | toYaml | nindent 2 }}{{- end }}
{{- end -}}
{{- end -}}

{{- /* One of .Values.timing as a whole number; call with (list . "drainSeconds"). */ -}}
{{- define "seesaw.seconds" -}}
{{- $given := index (index . 0).Values.timing (index . 1) -}}
{{- if gt (int $given) 604800 -}}
{{- fail (printf "timing.%s: %v is more than a week, which is 604800 seconds" (index . 1) $given) -}}
{{- end -}}
{{- int $given -}}
{{- end -}}

{{- /* What all images are tagged with, and what stands before it. */ -}}
{{- define "seesaw.tag" -}}
{{- $tag := .Values.images.tag -}}
{{- if not (kindIs "string" $tag) -}}
{{- fail (printf "images.tag: %v is a number, and may not be what was written: quote it, or use --set-string" $tag) -}}
{{- end -}}
{{- printf "%s%s" (contains ":" $tag | ternary "@" ":") ($tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- /*
One image by its name in .Values.images; call with (list . "router"). A name with a tag or digest of
its own keeps it, and one whose first part is a host is not prefixed.
*/ -}}
{{- define "seesaw.image" -}}
{{- $root := index . 0 -}}
{{- $images := $root.Values.images -}}
{{- $name := index $images (index . 1) -}}
{{- $prefix := $images.prefix -}}
{{- if and $prefix (not (hasSuffix "/" $prefix)) -}}{{- $prefix = printf "%s/" $prefix -}}{{- end -}}
{{- $first := splitList "/" $name | first -}}
{{- if and (contains "/" $name) (or (contains "." $first) (contains ":" $first)) -}}
{{- $prefix = "" -}}
{{- end -}}
{{- $tag := "" -}}
{{- if not (or (contains "@" $name) (contains ":" (splitList "/" $name | last))) -}}
{{- $tag = include "seesaw.tag" $root -}}
{{- end -}}
{{- printf "%s%s%s" $prefix $name $tag -}}
{{- end -}}

{{- /* Where routers and workers are, as a monitor's namespaceSelector. */ -}}
{{- define "seesaw.watched" -}}
{{- with .Values.watchNamespaces -}}
matchNames: {{- toYaml . | nindent 2 }}
{{- else -}}
any: true
{{- end -}}
{{- end -}}

{{- /* What all monitors may be told alike; call with one of .Values.monitoring's monitors. */ -}}
{{- define "seesaw.scrape" -}}
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
