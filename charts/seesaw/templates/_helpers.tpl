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

{{- define "seesaw.labels" -}}
{{ include "seesaw.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* One image by its name in .Values.images; call with (list . "router"). */ -}}
{{- define "seesaw.image" -}}
{{- $root := index . 0 -}}
{{- $images := $root.Values.images -}}
{{- printf "%s%s:%v" $images.prefix (index $images (index . 1)) ($images.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
