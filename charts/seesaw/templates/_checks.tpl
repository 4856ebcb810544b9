{{- /*
What a value must be beyond its type, each refused in one line that names it. The schema could only
show a pattern, or nothing.
*/ -}}
{{- define "seesaw.checks" -}}
{{- range $form := .Files.Get "files/forms.json" | fromJsonArray -}}
{{- range $form.paths -}}
{{- include "seesaw.checkForm" (list $.Values (splitList "/" .) "" $form) -}}
{{- end -}}
{{- end -}}
{{- include "seesaw.checkOperator" .Values.operator -}}
{{- range $i, $cidr := .Values.networkPolicy.apiServer.cidrs -}}
{{- include "seesaw.checkCidr" (list (printf "networkPolicy.apiServer.cidrs[%d]" $i) $cidr) -}}
{{- end -}}
{{- range $name := list "monitoring" "clients" -}}
{{- range $i, $peer := index $.Values.networkPolicy $name -}}
{{- include "seesaw.checkPeer" (list (printf "networkPolicy.%s[%d]" $name $i) $peer) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "serviceMonitor" "podMonitor" -}}
{{- $monitor := index $.Values.monitoring $name -}}
{{- if and $monitor.interval $monitor.scrapeTimeout -}}
{{- if gt (include "seesaw.ms" $monitor.scrapeTimeout | int64) (include "seesaw.ms" $monitor.interval | int64) -}}
{{- fail (printf "monitoring.%s.scrapeTimeout: %s is longer than the interval, which is %s, and Prometheus takes none that is: shorten it" $name $monitor.scrapeTimeout $monitor.interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $alerts := list -}}
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups -}}
{{- range .rules }}{{ $alerts = append $alerts .alert }}{{ end -}}
{{- end -}}
{{- range .Values.monitoring.rules.disabled -}}
{{- if not (has . $alerts) -}}
{{- fail (printf "monitoring.rules.disabled: there is no alert %q: correct the name to one of %s" . (join ", " $alerts)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Values at a path that have a form; call with (list VALUE PATH WHERE FORM). */ -}}
{{- define "seesaw.checkForm" -}}
{{- $value := index . 0 -}}
{{- $path := index . 1 -}}
{{- $where := index . 2 -}}
{{- $form := index . 3 -}}
{{- if not $path -}}
{{- if and (kindIs "string" $value) (not (regexMatch $form.pattern $value)) -}}
{{- fail (printf "%s: %q %s" $where $value $form.words) -}}
{{- end -}}
{{- else if and (eq (first $path) "*") (kindIs "slice" $value) -}}
{{- range $i, $each := $value -}}
{{- include "seesaw.checkForm" (list $each (rest $path) (printf "%s[%d]" $where $i) $form) -}}
{{- end -}}
{{- else if and (has (first $path) (list "*" "@")) (kindIs "map" $value) -}}
{{- range $key, $each := $value -}}
{{- $below := eq (first $path) "*" | ternary $each $key -}}
{{- $at := eq (first $path) "*" | ternary (printf "%s.%s" $where $key) $where -}}
{{- include "seesaw.checkForm" (list $below (rest $path) $at $form) -}}
{{- end -}}
{{- else if kindIs "map" $value -}}
{{- if hasKey $value (first $path) -}}
{{- $at := printf "%s.%s" $where (first $path) | trimPrefix "." -}}
{{- include "seesaw.checkForm" (list (index $value (first $path)) (rest $path) $at $form) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "seesaw.checkOperator" -}}
{{- if eq (int .replicas) 0 -}}
{{- fail "operator.replicas: 0 would leave nobody to look after SeesawDeployments: set 1 or more, or stop it for a while with kubectl scale" -}}
{{- end -}}
{{- range $i, $given := .tolerations -}}
{{- $where := printf "operator.tolerations[%d]" $i -}}
{{- if and (not $given.key) (ne ($given.operator | default "Equal") "Exists") -}}
{{- fail (printf "%s: without a key it tolerates every taint: set operator: Exists, or a key" $where) -}}
{{- end -}}
{{- if and $given.value (eq ($given.operator | default "Equal") "Exists") -}}
{{- fail (printf "%s.value: operator Exists takes no value: leave %q out, or set operator: Equal" $where $given.value) -}}
{{- end -}}
{{- if and (hasKey $given "tolerationSeconds") (ne ($given.effect | default "") "NoExecute") -}}
{{- fail (printf "%s.tolerationSeconds: goes with effect NoExecute only, and the effect is %q: set that, or leave it out" $where ($given.effect | default "")) -}}
{{- end -}}
{{- end -}}
{{- range $i, $given := .envFrom -}}
{{- if eq (hasKey $given "configMapRef") (hasKey $given "secretRef") -}}
{{- fail (printf "operator.envFrom[%d]: give exactly one of configMapRef and secretRef, such as {secretRef: {name: proxy}}" $i) -}}
{{- end -}}
{{- end -}}
{{- range $i, $given := .extraEnv -}}
{{- if hasKey $given "valueFrom" -}}
{{- if or (hasKey $given "value") (ne (len $given.valueFrom) 1) -}}
{{- fail (printf "operator.extraEnv[%d]: %s takes value, or valueFrom with exactly one source, such as {secretKeyRef: {name: proxy, key: url}}" $i $given.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $i, $given := .topologySpreadConstraints -}}
{{- if and (hasKey $given "minDomains") (ne $given.whenUnsatisfiable "DoNotSchedule") -}}
{{- fail (printf "operator.topologySpreadConstraints[%d].minDomains: goes with DoNotSchedule only, and whenUnsatisfiable is %s: set that, or leave it out" $i $given.whenUnsatisfiable) -}}
{{- end -}}
{{- end -}}
{{- range $i, $given := .resources.claims -}}
{{- if not $given.name -}}
{{- fail (printf "operator.resources.claims[%d]: needs the name of one of the pod's resourceClaims" $i) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A peer of a NetworkPolicy; call with (list WHERE PEER). */ -}}
{{- define "seesaw.checkPeer" -}}
{{- $where := index . 0 -}}
{{- $peer := index . 1 -}}
{{- if not $peer -}}
{{- fail (printf "%s: an empty peer is none: give podSelector, namespaceSelector or ipBlock" $where) -}}
{{- end -}}
{{- if hasKey $peer "ipBlock" -}}
{{- if gt (len $peer) 1 -}}
{{- fail (printf "%s: ipBlock stands alone: give the selectors as another peer" $where) -}}
{{- end -}}
{{- include "seesaw.checkCidr" (list (printf "%s.ipBlock.cidr" $where) ($peer.ipBlock.cidr | default "")) -}}
{{- range $i, $cidr := $peer.ipBlock.except -}}
{{- include "seesaw.checkCidr" (list (printf "%s.ipBlock.except[%d]" $where $i) $cidr) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A network; call with (list WHERE TEXT). */ -}}
{{- define "seesaw.checkCidr" -}}
{{- $text := index . 1 | toString -}}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" -}}
{{- $four := regexMatch (printf "^(%s[.]){3}%s/([12]?[0-9]|3[0-2])$" $octet $octet) $text -}}
{{- $hex := "[0-9a-fA-F]{1,4}" -}}
{{- $length := "/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$" -}}
{{- $whole := regexMatch (printf "^(%s:){7}%s%s" $hex $hex $length) $text -}}
{{- $short := regexMatch (printf "^(%s(:%s)*)?::(%s(:%s)*)?%s" $hex $hex $hex $hex $length) $text -}}
{{- $few := lt (len (regexFindAll $hex (splitList "/" $text | first) -1)) 8 -}}
{{- if not (or $four $whole (and $short $few)) -}}
{{- fail (printf "%s: %s is no CIDR, such as 10.0.0.1/32 or fd00::1/128: correct it" (index . 0) ($text | quote)) -}}
{{- end -}}
{{- end -}}

{{- /* Milliseconds of a time of Prometheus. */ -}}
{{- define "seesaw.ms" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000 "y" 31536000000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[ywdhms])" . -1 -}}
{{- $sum = add $sum (mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}
