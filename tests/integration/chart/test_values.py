"""Which values the chart takes, and what a user reads of others: name, value and fix."""

import json
from pathlib import Path

import pytest
from pydantic.alias_generators import to_camel

from seesaw_generate.chart.values import TimingValues
from support.chart_release.helm import (
    CHART,
    Json,
    kubectl,
    objects,
    rendered,
)
from support.cluster_client.kubectl import SYSTEM, run
from support.control_plane.apiserver import ApiServer


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("oprator.x=1", "additional properties 'oprator' not allowed"),
        ("log.level=loud", "'/log/level'"),
        ("profiles.big.worker.x=1", "additional properties 'worker' not allowed"),
        ("operator.replicas=two", "'/operator/replicas'"),
        ("monitoring.rules.disabled[0]=1", "'/monitoring/rules/disabled/0'"),
        ("monitoring.rules.disabled={Nope}", 'monitoring.rules.disabled: there is no alert "Nope"'),
        (
            "monitoring.podMonitor.interval=abc",
            'monitoring.podMonitor.interval: "abc" must be a time',
        ),
        (
            "monitoring.serviceMonitor.scrapeTimeout=1s1m",
            'monitoring.serviceMonitor.scrapeTimeout: "1s1m" must',
        ),
        (
            "monitoring.dashboard.labels.a=b c",
            'monitoring.dashboard.labels.a: "b c" must be a label',
        ),
        ("nameOverride=A_B", 'nameOverride: "A_B" must be'),
        ("fullnameOverride=A_B", 'fullnameOverride: "A_B" must be'),
        (
            "fullnameOverride=1st",
            'fullnameOverride: "1st" must be the name of a Service',
        ),  # a Service is named so
        ("namespaceOverride=a.b", 'namespaceOverride: "a.b" must be'),
        ("commonLabels.a_=b", 'commonLabels: "a_" must be a key'),
        (f"commonLabels.a={'b' * 64}", "'/commonLabels/a': maxLength: got 64, want 63"),
        ("commonAnnotations.a b=c", 'commonAnnotations: "a b" must be a key'),
        ("images.tag=a b", 'images.tag: "a b" must be a tag'),
        ("images.tag=sha256:aaa", 'images.tag: "sha256:aaa" must be'),
        ("images.tag=7", r"images\.tag: 7 is a number.* quote it"),
        (f"images.operator=repo@sha256:{'a' * 63}", 'images.operator: "repo@sha256:a*" must be'),
        (
            "images.workerCpu=seesaw test",
            'images.workerCpu: "seesaw test" must be the name of an image',
        ),
        ("images.prefix=my registry/", 'images.prefix: "my registry/" must be a host'),
        ("images.pullSecrets={A}", 'images.pullSecrets.0.: "A" must be'),
        ("watchNamespaces={q,quota,q}", "'/watchNamespaces': items at 0 and 2 are equal"),
        ("watchNamespaces={A_b}", 'watchNamespaces.0.: "A_b" must be the name of a namespace'),
        ("timing.drainSeconds=604801", "'/timing/drainSeconds': maximum"),
        ("timing.resyncSeconds=0", "'/timing/resyncSeconds': minimum"),
        ("operator.replicas=2147483648", "'/operator/replicas': maximum"),
        (
            "operator.podDisruptionBudget.maxUnavailable=abc",
            'maxUnavailable: "abc" must be a number',
        ),
        ("operator.podDisruptionBudget.maxUnavailable=101%", 'maxUnavailable: "101%" must be'),
        (
            "operator.resources.limits.memory=2.5Zi",
            'operator.resources.limits.memory: "2.5Zi" must be',
        ),
        ("operator.resources.requests.cpu=-1", "'/operator/resources/requests/cpu': minimum"),
        ("operator.resources.limit.memory=1Gi", "additional properties 'limit' not allowed"),
        ("operator.extraEnv[0].name=A B", 'operator.extraEnv.0..name: "A B" must be'),
        ("operator.extraEnv[0].value=b", "'/operator/extraEnv/0': missing property 'name'"),
        ("operator.envFrom[0].secretRef.name=A", 'operator.envFrom.0..secretRef.name: "A" must be'),
        ("operator.priorityClassName=A", 'operator.priorityClassName: "A" must be'),
        ("operator.nodeSelector.a=b c", 'operator.nodeSelector.a: "b c" must be'),
        ("operator.tolerations[0].effect=No", "'/operator/tolerations/0/effect'"),
        ("operator.affinity.node=x", "additional properties 'node' not allowed"),
        ("operator.topologySpreadConstraints[0].maxSkew=0", "missing properties 'topologyKey'"),
        ("serviceAccount.name=A", 'serviceAccount.name: "A" must be'),
        (
            "networkPolicy.apiServer.cidrs={10.0.0.1}",
            'networkPolicy.apiServer.cidrs.0.: "10.0.0.1" is no CIDR',
        ),
        ("networkPolicy.apiServer.ports={0}", "'/networkPolicy/apiServer/ports/0': minimum"),
        ("networkPolicy.clients[0].pods=x", "additional properties 'pods' not allowed"),
        ("profiles.A_b.engine.podTemplate.x=1", 'profiles: "A_b" must be the name'),
        ("operator.replicas=0", "operator.replicas: 0 would leave nobody .* set 1 or more"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(flag: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        rendered(None, CHART, f"--set={flag}")


NO_SOURCES: tuple[Json, ...] = (
    {"valueFrom": {}},
    {"value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
)
NO_NETWORKS = (
    *("10.0.0.256/32", "10.0.0.1/33", "10.0.0/8", "::1/129", "a:b/8", "1:2:3/64", "1::2::3/8"),
    *("1:2:3:4:5:6:7/8", "::1:2:3:4:5:6:7:8/8", ":1:2:3:4:5:6:7:8/8", "10.0.0.1", ":::/0"),
)


@pytest.mark.parametrize("cidr", NO_NETWORKS)
def test_a_network_that_is_none_is_refused_in_words(cidr: str) -> None:
    told = rf'"{cidr}" is no CIDR, such as 10\.0\.0\.1/32'
    with pytest.raises(AssertionError, match=rf"networkPolicy\.apiServer\.cidrs\[0\]: {told}"):
        rendered({"networkPolicy": {"enabled": True, "apiServer": {"cidrs": [cidr]}}})
    with pytest.raises(
        AssertionError, match=rf"networkPolicy\.clients\[0\]\.ipBlock\.cidr: {told}"
    ):
        rendered({"networkPolicy": {"clients": [{"ipBlock": {"cidr": cidr}}]}})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        *(
            ({"operator": {"tolerations": [given]}}, rf"operator\.tolerations\[0\]{says}")
            for given, says in (
                ({}, ": without a key .* set operator: Exists"),
                ({"operator": "Equal", "value": "x"}, ": without a key"),
                ({"key": "", "operator": ""}, ": without a key"),
                ({"key": "a", "operator": "Exists", "value": "b"}, r"\.value: .* leave \"b\" out"),
                ({"key": "a", "tolerationSeconds": 5}, r"\.tolerationSeconds: .* effect is \"\""),
                (
                    {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 0},
                    r"\.tolerationSeconds: goes with effect NoExecute only.*\"NoSchedule\"",
                ),
            )
        ),
        *(
            ({"operator": {"envFrom": [each]}}, r"operator\.envFrom\[0\]: give exactly one")
            for each in (
                {},
                {"prefix": "A"},
                {name: {"name": "a"} for name in ("configMapRef", "secretRef")},
            )
        ),
        *(
            (
                {"operator": {"extraEnv": [{"name": "A"} | given]}},
                r"operator\.extraEnv\[0\]: A takes",
            )
            for given in NO_SOURCES
        ),
        (
            {
                "operator": {
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "zone",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "minDomains": 2,
                        }
                    ]
                }
            },
            r"operator\.topologySpreadConstraints\[0\]\.minDomains: .* is ScheduleAnyway",
        ),
        (
            {"operator": {"resources": {"claims": [{}]}}},
            r"operator\.resources\.claims\[0\]: needs the name",
        ),
        *(
            ({"networkPolicy": {peers: [given]}}, rf"networkPolicy\.{peers}\[0\]{says}")
            for peers in ("monitoring", "clients")
            for given, says in (
                ({}, ": an empty peer is none: give"),
                ({"ipBlock": {}}, r'\.ipBlock\.cidr: "" is no CIDR'),
                ({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}, ": ipBlock stands alone"),
                (
                    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}},
                    r'\.ipBlock\.except\[0\]: "x" is no CIDR',
                ),
            )
        ),
        *(
            (
                {"monitoring": {monitor: {"interval": "30s", "scrapeTimeout": longer}}},
                rf"monitoring\.{monitor}\.scrapeTimeout: {longer} is longer .* 30s.*shorten it",
            )
            for monitor in ("serviceMonitor", "podMonitor")
            for longer in ("31s", "1m", "1h1ms", "30s1ms", "1y")
        ),
    ],
    ids=str,
)
def test_what_kubernetes_would_refuse_is_refused_in_one_line(values: Json, says: str) -> None:
    with pytest.raises(AssertionError, match=says) as refused:
        rendered(values)
    (line,) = (each for each in str(refused.value).splitlines() if "execution error" in each)
    assert len(line.partition("execution error")[2]) < 300


@pytest.mark.parametrize("name", ["1", "0.1", "my.release", "1.seesaw", "9" * 53, f"{'a' * 49}.b"])
def test_any_release_name_gives_names_that_kubernetes_takes(
    name: str, apiserver: ApiServer
) -> None:
    given = (f"--namespace={SYSTEM}", "--kube-version=1.30.0", "--set=crd.install=false")
    text = run("helm", "template", name, str(CHART), *given)
    kubectl(apiserver, "apply", "--dry-run=server", body=text)


def test_large_numbers_are_written_in_digits(apiserver: ApiServer) -> None:
    values = {
        "operator": {
            "replicas": 1_000_000,
            "podDisruptionBudget": {"maxUnavailable": 1_000_000},
            "podSecurityContext": {"runAsUser": 1_000_680_000},
            "tolerations": [
                {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 12_345_678}
            ],
        }
    }
    text = rendered(values)
    assert "replicas: 1000000\n" in text
    assert "maxUnavailable: 1000000\n" in text
    kubectl(apiserver, "apply", "--dry-run=server", body=text)


def test_a_namespace_that_is_named_twice_gets_its_policies_once() -> None:
    policy = {"networkPolicy": {"enabled": True, "namespaces": ["q", "r", "q"]}}
    text = rendered(policy)
    assert text.count('namespace: "q"') == 2
    assert [name for name in objects(text) if name.startswith("NetworkPolicy r/")]


@pytest.mark.parametrize("name", sorted(to_camel(name) for name in TimingValues.model_fields))
def test_no_timing_is_longer_than_a_week_as_in_the_resource(name: str) -> None:
    assert "604800" in rendered(None, CHART, f"--set-string=timing.{name}=604800")
    with pytest.raises(AssertionError, match=rf"timing\.{name}: 604801 is more than a week"):
        rendered(None, CHART, f"--set-string=timing.{name}=604801")


@pytest.mark.parametrize("written", ["007", "0x1F", "1e3", "1234567890123456789012", "1.10"])
def test_a_tag_that_yaml_reads_as_a_number_is_to_be_quoted(written: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(f"images: {{tag: {written}}}")
    with pytest.raises(AssertionError, match=r"images\.tag: .* is a number.* quote it"):
        rendered(None, CHART, f"--values={values}")
    values.write_text(f"images: {{tag: '{written}'}}")
    assert f"/seesaw-router:{written}" in rendered(
        None, CHART, f"--values={values}", "--set=images.prefix=localhost"
    )


ORDINARY: Json = {
    "nameOverride": "llm",
    "fullnameOverride": "seesaw-2",
    "namespaceOverride": "elsewhere",
    "commonLabels": {"app.kubernetes.io/part-of": "llm", "empty": ""},
    "commonAnnotations": {"example.com/a_b": "any text, of any kind"},
    "images": {
        "prefix": "localhost:5000/my_team/a",
        "operator": "registry.example.com:443/a/b:1.0@sha256:" + "0" * 64,
        "tag": "v1.0_RC-1",
        "pullSecrets": ["a.b", "c"],
    },
    "watchNamespaces": ["1", "a-b"],
    "timing": {"drainSeconds": 604_800, "startSeconds": "900"},
    "operator": {
        "replicas": 2,
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "resources": {
            "requests": {"cpu": 0.5, "memory": "1.5Gi", "example.com/x": 1},
            "limits": {
                "cpu": "1500m",
                "memory": 2**31,
                "ephemeral-storage": "1e9",
                "example.com/x": 1,
            },
        },
        "extraArgs": ["--port", "8080"],
        "extraEnv": [
            {"name": "A.b-c", "value": ""},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "envFrom": [{"prefix": "A_", "secretRef": {"name": "a.b", "optional": True}}],
        "tolerations": [
            {"key": "a/b", "operator": "Equal", "value": "", "effect": "NoExecute"},
            {"effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 5},
        ],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"a": "b"}},
                "matchLabelKeys": ["pod-template-hash"],
                "minDomains": 2,
                "nodeAffinityPolicy": "Honor",
                "nodeTaintsPolicy": "Ignore",
            }
        ],
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None},
    },
    "serviceAccount": {"name": "a.b"},
    "monitoring": {
        "serviceMonitor": {"interval": "1m30s", "scrapeTimeout": "500ms"},
        "rules": {"disabled": ["SeesawQueueFull"]},
    },
    "networkPolicy": {
        "enabled": True,
        "apiServer": {"cidrs": ["10.0.0.0/8", "fd00::1/128", "::/0"]},
        "monitoring": [{"podSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {}}],
        "clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
    },
}
"""Values at the edge of what may be."""


def test_what_kubernetes_allows_is_taken_by_the_chart_and_the_apiserver(
    apiserver: ApiServer,
) -> None:
    for name in ("1", "a-b", "elsewhere"):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        kubectl(apiserver, "apply", body=json.dumps(namespace))
    kubectl(apiserver, "apply", "--dry-run=server", body=rendered(ORDINARY, CHART, "--skip-tests"))
