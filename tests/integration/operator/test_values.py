"""Values that no resource may have, and what a user reads of them."""

import pytest

from seesaw_operator.api import engine
from seesaw_worker.server.flags import FLAGS
from seesaw_worker.upstream.vllm_flags import BY_FLAG
from support.control_plane.apiserver import ApiServer, Json
from support.resource_specs.making import INSTANCES, SPEC, added, of_pod, try_to_create

# Values out of bounds, and what the answer must name.
OUT_OF_BOUNDS: list[tuple[Json, list[str]]] = [
    ({"model": {"uri": "not a uri"}}, ["spec.model.uri", "not a uri"]),
    ({"model": {}}, ["spec.model.uri", "Required"]),
    ({"replicas": -1}, ["spec.replicas", "greater than or equal to 0"]),
    ({"accelerator": {"count": 0}}, ["spec.accelerator.count"]),
    ({"kvBuffer": {"size": "lots"}}, ["spec.kvBuffer.size", "lots"]),
    ({"kvBuffer": {"size": "1.5"}}, ["spec.kvBuffer.size"]),
    ({"model": {"uri": "org/model\n--port=1"}}, ["spec.model.uri"]),
    ({"model": {"uri": "x", "name": "-x"}}, ["spec.model.name"]),
    ({"model": {"uri": "x", "name": "a\nb"}}, ["spec.model.name"]),
    ({"accelerator": {"resourceName": "memory"}}, ["spec.accelerator.resourceName"]),
    ({"accelerator": {"resourceName": "a..b/c"}}, ["spec.accelerator.resourceName"]),
    ({"engine": {"image": "my image"}}, ["spec.engine.image"]),
    ({"router": {"image": "img\n"}}, ["spec.router.image"]),
    ({"router": {"image": "img@sha256:abc"}}, ["spec.router.image"]),
    ({"engine": {"env": [{"name": "A B"}]}}, ["spec.engine.env[0].name"]),
    (
        {
            "engine": {
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "Bad_Name", "key": "k"}}}
                ]
            }
        },
        ["secretKeyRef.name"],
    ),
    ({"engine": {"nodeSelector": {"a": "b c"}}}, ["spec.engine.nodeSelector"]),
    ({"engine": {"tolerations": [{"key": "a b"}]}}, ["tolerations[0].key"]),
    ({"reshard": "sometimes"}, ["spec.reshard", '"Auto", "Always", "Never"']),
    ({"waves": {"maxWait": "soon"}}, ["spec.waves.maxWait", "soon"]),
    ({"parallelism": {"prefill": {"tensor": "two"}, "decode": {}}}, ["prefill.tensor", "integer"]),
    (
        {"parallelism": {"mode": "Sometimes"}},
        ["spec.parallelism.mode", '"Auto", "Manual", "Elastic"'],
    ),
    *(
        (
            {"parallelism": {"mode": "Elastic", "elastic": {"instances": 2} | wrong}},
            ["spec.parallelism.elastic", *says],
        )
        for wrong, says in (
            ({"instances": 0}, ["instances", "greater than or equal to 1"]),
            ({"instances": 65}, ["instances", "less than or equal to 64"]),
            ({"tensor": 0}, ["tensor", "greater than or equal to 1"]),
            ({"pipeline": 2}, ["pipeline", "unknown field"]),
        )
    ),
    ({"parallelism": {"mode": "Elastic", "elastic": {}}}, ["elastic.instances", "Required"]),
    (
        {"accelerator": {"count": 3}, "parallelism": INSTANCES},
        ["spec.parallelism", "instances x tensor must equal accelerator.count"],
    ),
    ({"planning": {"approval": "Never"}}, ["planning.approval", '"Manual", "Automatic"']),
    ({"planning": {"promptTokens": 0}}, ["spec.planning.promptTokens"]),
    ({"accelerator": {"product": "-"}}, ["spec.accelerator.product"]),
    ({"router": {"service": {"type": "ExternalName"}}}, ["router.service.type", '"ClusterIP"']),
    (
        {"router": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["all"]}}},
        ["router.service.loadBalancerSourceRanges[0]"],
    ),
    ({"timing": {"drainSeconds": 0}}, ["spec.timing.drainSeconds"]),
    *(
        (
            {"engine": {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": wrong}}}]}},
            ["fieldRef.fieldPath"],
        )
        for wrong in ("spec.foo", "metadata.labels", "metadata.labels['bad key!']")
    ),
    *(
        (
            {"engine": {"env": [{"name": "A", "valueFrom": {each: {"name": "x", "key": wrong}}}]}},
            [f"{each}.key"],
        )
        for each in ("secretKeyRef", "configMapKeyRef")
        for wrong in (".", "..", "..a")
    ),
    *(({"engine": {"env": [{"name": wrong}]}}, ["env[0].name"]) for wrong in (".", "..", "A=B")),
    ({"engine": {"env": [{"name": "A", "value": "a\0b"}]}}, ["env[0].value"]),
    ({"engine": {"env": [{"name": "A", "value": "a" * 32769}]}}, ["env[0].value", "32768"]),
    (
        {"engine": {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "x"}}}]}},
        ["resourceFieldRef.resource"],
    ),
    *(
        ({component: {"extraArgs": ["--x", wrong]}}, [f"spec.{component}.extraArgs[1]"])
        for component in ("engine", "router")
        for wrong in ("a\0b", "\0")
    ),
    *(
        (
            {"router": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": [wrong]}}},
            ["router.service.loadBalancerSourceRanges[0]"],
        )
        for wrong in ("999.1.1.1/99", "10.0.0.0/33", "::/129", "1::2::3/8", "10.0.0.0/8 ")
    ),
    ({"router": {"service": {"annotations": {"a": "\0"}}}}, ["router.service.annotations[a]"]),
    *(
        ({component: {"image": wrong}}, [f"spec.{component}.image"])
        for component in ("engine", "router")
        for wrong in (
            *("a::b", "a@@b", "a:", "a/", "a//b", "img:tag:tag", "https://x/y", "a@sha256:123"),
            *("", " ", "a..b/c", "-a", "img@sha256:" + "A" * 64, "img:" + "t" * 129),
        )
    ),
    *(
        ({"kvBuffer": {"size": wrong}}, ["kvBuffer.size"])
        for wrong in (-1, 4.5, "1e99", "2Ei", "99999999Pi")
    ),
    *(
        ({component: {"resources": {"cpu": wrong}}}, [f"{component}.resources.cpu"])
        for component in ("engine", "router")
        for wrong in (0, -1, 0.5, 10**12, "0", "0.000", "0m", "9" * 24, "1e999999999")
    ),
    *(
        (added("engine", component, resources={part: {"x.y/z": wrong}}), [f"{part}[x.y/z]"])
        for component, part in (("router", "limits"), ("engine", "requests"))
        for wrong in ("1e999999999", "1e19", "-1", "1e1000000", "1e-99", -1)
    ),
    *(
        (of_pod(field, [{"name": wrong}]), [f"podTemplate.spec.{field}[0].name"])
        for field in ("volumes", "resourceClaims")
        for wrong in ("a.b", "x" * 64)
    ),
    (of_pod("hostAliases", [{"ip": "bad"}]), ["hostAliases[0].ip"]),
    (added("engine", env=[{"name": "a=b"}]), ["env[0].name"]),
    *(
        (added("x", image="x:1", ports=[{"containerPort": 9, "name": wrong}]), ["ports[0].name"])
        for wrong in ("UP", "1234", "a--b", "-a", "")
    ),
    *(
        (of_pod(field, [{"name": "x", "image": wrong}]), [f"{field}[0].image"])
        for field in ("containers", "initContainers")
        for wrong in ("", " ", "a::b")
    ),
    *(
        (added("engine", volumeMounts=[{"name": "x", "mountPath": wrong}]), ["mountPath"])
        for wrong in (
            "/x\n",
            "/x\0",
            "",
            "x",
            "/x:y",
            "/.",
            "/..",
            "/./x",
            "/x/../y",
            "/x/..",
            "x/y",
        )
    ),
    *(
        ({"accelerator": {"resourceName": wrong}}, ["accelerator.resourceName"])
        for wrong in ("mykubernetes.io/x", f"{'a' * 244}.y/z")
    ),
    *(
        ({"model": {"uri": wrong}}, ["spec.model.uri"])
        for wrong in (
            *("/", "//", "org/--x", "org/.x", "org/a..b", "a--b/c", "org/x."),
            *("a/b/c", "s3://a/b", "pvc://c/x ", "/models/x\n", "org/mo del"),
        )
    ),
    *(
        ({"waves": {"maxWait": wrong}}, ["spec.waves.maxWait"])
        for wrong in ("10", "1d", "10 s", "", "999999999h")
    ),
    ({"modle": {"uri": "org/x"}}, ["modle"]),
]


@pytest.mark.parametrize(("more", "says"), OUT_OF_BOUNDS)
async def test_a_value_out_of_bounds_is_refused_by_name(
    more: Json, says: list[str], apiserver: ApiServer
) -> None:
    answer = await try_to_create(apiserver, SPEC | more)
    assert answer["kind"] == "Status", answer
    for part in says:
        assert part in answer["message"], answer["message"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--kv_buffer_gib=8"],
        ["-tp4"],
        ["--elastic_inst=2"],
        ["-pp", "2"],
        ["--served-model-name=x"],
        ["--max_model_len", "9"],
        ["--config=/etc/x.yaml"],
        *(
            ["--dtype=float16", flag]
            for flag in (
                *("--kv-buf=8", "--resh=never", "--flush=3", "--drain=5", "--prefill-tensor=4"),
                *("--max-model=5", "--served-model=x", "--kv_buf", "--tensor-parallel", "--p"),
                *("--uds=/tmp/x", "--headless", "--nnodes", "-n2", "--node-rank", "-r1"),
                *(
                    "-dpl",
                    "-dp=2",
                    "-t",
                    "-pp2",
                    "--data-parallel-size-local=2",
                    "--ssl-keyfile=x",
                    "--model.x=y",
                    "--",
                ),
            )
        ),
    ],
    ids=str,
)
async def test_no_spelling_gets_a_flag_past_the_operator(
    flags: list[str], apiserver: ApiServer
) -> None:
    answer = await try_to_create(apiserver, SPEC | {"engine": {"extraArgs": flags}})
    (cause,) = answer["details"]["causes"]
    assert "engine.extraArgs must not set what the operator sets, as '" in cause["message"]
    assert flags[-1].split("=")[0].split(" ")[0] in cause["message"] or flags[0] in cause["message"]
    assert len(cause["message"]) < 250


async def test_every_other_flag_of_the_worker_is_taken(apiserver: ApiServer) -> None:
    names = {*(f"--{n}".replace("_", "-") for n in BY_FLAG), *(each.name for each in FLAGS)}
    free = sorted(names - set(engine._OPERATORS) - {"--model-tag"})
    assert len(free) > 200
    for first in range(0, len(free), 128):
        spec = SPEC | {"engine": {"extraArgs": free[first : first + 128]}}
        answer = await try_to_create(apiserver, spec)
        assert answer["kind"] == "SeesawDeployment", answer


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"engine": {"resources": {"memory": "64GB"}}}, "64GB"),
        ({"engine": {"resources": {"cpu": 0.5}}}, "integer,string"),
        ({"kvBuffer": {"size": 4.5}}, "integer,string"),
        ({"router": {"resources": {"memory": True}}}, "integer,string"),
        *(({"waves": {"maxWait": each}}, "maxWait") for each in ("10", "1d", "", "9" * 9 + "h")),
        *(({part: {"extraArgs": [""]}}, "no empty text") for part in ("engine", "router")),
        ({"engine": {"extraArgs": ["--x", ""]}}, "no empty text"),
        *(({"kvBuffer": {"size": each}}, "kvBuffer.size") for each in ("64GB", "4 Gi", "lots")),
        ({"router": {"resources": {"memory": "1gi"}}}, "memory"),
        *(({"kvBuffer": {"size": each}}, "kvBuffer.size") for each in ("1.5", "-1Gi", -1, "0")),
        *(({"engine": {"resources": {"memory": each}}}, "memory") for each in ("-1Gi", "1.5")),
        *(({"model": {"uri": each}}, "model.uri") for each in ("../x", "a/../b", "pvc:///..", "")),
        ({"accelerator": {"resourceName": "a..b/kubernetes.io/x"}}, "resourceName"),
        ({"engine": {"nodeSelector": {"a": "b c"}}}, "nodeSelector"),
        ({"engine": {"nodeSelector": {"team": "a", "a b": "c"}}}, "none with the key 'a b'"),
        (of_pod("nodeSelector", {"x/y/z": "a"}), "and not like 'x/y/z'"),
        ({"router": {"service": {"labels": {"a b": "c"}}}}, "and not like 'a b'"),
        ({"engine": {"extraArgs": ["--port=$(F)"]}}, "write the value itself"),
        ({"engine": {"extraArgs": ["$(F)"]}}, "write the value itself"),
    ],
)
async def test_one_mistake_is_told_once(more: Json, wrong: str, apiserver: ApiServer) -> None:
    answer = await try_to_create(apiserver, SPEC | more)
    assert wrong in answer["message"]
    assert "compose" not in answer["message"], answer["message"]
    assert "evaluating rule" not in answer["message"], answer["message"]
    told = [each for each in answer["details"]["causes"] if "not checked" not in each["message"]]
    assert len(told) == 1, answer["details"]
