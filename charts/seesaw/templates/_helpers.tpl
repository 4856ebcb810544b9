{{- define "seesaw.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "seesaw.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "seesaw.fullname" .) -}}
{{- end -}}

{{- define "seesaw.selector" -}}
app.kubernetes.io/name: seesaw-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "seesaw.commonLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "seesaw.labels" -}}
app.kubernetes.io/name: seesaw-operator
{{ include "seesaw.commonLabels" . }}
{{- end -}}

{{- define "seesaw.pullSecrets" -}}
{{- with .Values.images.pullSecrets -}}
imagePullSecrets: {{- range . }}{{ list (dict "name" .) | toYaml | nindent 2 }}{{- end }}
{{- end -}}
{{- end -}}

{{- /* A whole number as it was written: YAML readers make a float of a large one. */ -}}
{{- define "seesaw.text" -}}
{{- if kindIs "float64" . }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end -}}
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
{{- $tag = printf ":%s" (include "seesaw.text" ($images.tag | default $root.Chart.AppVersion)) -}}
{{- end -}}
{{- printf "%s%s%s" $prefix $name $tag -}}
{{- end -}}
