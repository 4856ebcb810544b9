"""Pod templates of users by chance: some in order, some with what is the operator's."""

from typing import Any

from hypothesis import strategies as st

from seesaw_operator.api import owned

Made = st.SearchStrategy[Any]

FREE = st.dictionaries(
    st.sampled_from(["a", "name", "env", "ports", "volumes", "devicePath", "$patch"]),
    st.none() | st.integers(0, 9) | st.sampled_from([[{"name": "x"}], [1], {"b": None}]),
    max_size=2,
)


def of(*values: Any) -> Made:
    return st.sampled_from(values)


def some(items: Made, at_most: int = 3) -> Made:
    return st.none() | st.lists(items, max_size=at_most)


# What is in order and what is ours: either may be drawn.
ENV = st.fixed_dictionaries(
    {"name": of("A", "B", "C", "HOME", "USER", "GIVEN")},
    optional={"value": of("1", None), "valueFrom": FREE},
)
MOUNTS = st.fixed_dictionaries(
    {"name": of("d", "e", "shm"), "mountPath": of("/d", "/scratch/d", "/x/y", "/tmp", "/dev//shm")},
    optional={"readOnly": st.booleans(), "subPath": of("p")},
)
PORTS = st.fixed_dictionaries(
    {"containerPort": of(9000, 9001, 8000, 8001)},
    optional={"name": of("m", "http", "engine-0"), "protocol": of("TCP", "UDP")},
)
QUANTITIES = st.dictionaries(
    of("ephemeral-storage", "rdma/hca", "hugepages-2Mi", "cpu", "memory", "nvidia.com/gpu"),
    of(1, "2Gi", "500m"),
    max_size=2,
)
TO_OURS: dict[str, Made] = {
    "env": some(ENV),
    "envFrom": some(FREE, 1),
    "volumeMounts": some(MOUNTS),
    "volumeDevices": some(st.fixed_dictionaries({"devicePath": of("/dev/a", "/dev/b")}) | FREE),
    "resources": st.fixed_dictionaries({}, optional={"limits": QUANTITIES, "requests": QUANTITIES}),
    "securityContext": st.dictionaries(of("runAsUser", "privileged"), of(None, 1), max_size=2),
}
CONTAINERS = st.one_of(
    st.fixed_dictionaries({"name": of("engine", "router")}, optional=TO_OURS),
    st.fixed_dictionaries(
        {"name": of("a", "b", "engine", "router", "engine-0", "engine-1"), "image": of("x:1")},
        optional={"ports": some(PORTS)}
        | TO_OURS
        | {name: FREE for name in sorted(owned.OF_CONTAINER) if name != "image"},
    ),
)
NAMED = st.fixed_dictionaries({"name": of("d", "e", "ours", "shm", "model")}, optional={"x": FREE})
TOLERATIONS = st.just({"key": "x", "operator": "Exists"}) | st.fixed_dictionaries(
    {},
    optional={
        "key": of("x", "a b"),
        "operator": of("Exists", "Equal", "exists"),
        "value": of("y"),
        "effect": of("NoExecute", "NoSchedule"),
        "tolerationSeconds": of(1, -1),
    },
)
PODS = st.fixed_dictionaries(
    {},
    optional={
        "affinity": FREE,
        "automountServiceAccountToken": st.booleans(),
        "containers": some(CONTAINERS),
        "dnsConfig": FREE,
        "hostAliases": some(st.fixed_dictionaries({"ip": of("10.0.0.1", "10.0.0.2")})),
        "imagePullSecrets": some(NAMED),
        "initContainers": some(CONTAINERS),
        "nodeSelector": st.dictionaries(of("a", "b"), of("x", "y")),
        "resourceClaims": some(NAMED),
        "securityContext": st.dictionaries(of("runAsUser", "fsGroup"), of(None, 7)),
        "serviceAccountName": of("mine", None),
        "tolerations": some(TOLERATIONS),
        "topologySpreadConstraints": some(
            st.fixed_dictionaries(
                {
                    "topologyKey": of("kubernetes.io/hostname", "zone"),
                    "whenUnsatisfiable": of("DoNotSchedule", "ScheduleAnyway"),
                }
            )
        ),
        "volumes": some(NAMED),
    }
    | {name: of(True, 1, "x", None, {}) for name in owned.OF_POD},
)
LABELS = st.dictionaries(
    of(
        "team",
        "example.com/x",
        "seesaw.dev/deployment",
        "app.kubernetes.io/component",
        "a b",
        "seesaw.dev",
    ),
    of("x", "y"),
    max_size=2,
)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": LABELS, "annotations": LABELS}),
        "spec": PODS,
    },
)
ONE_FIELD = st.fixed_dictionaries(
    {"spec": st.fixed_dictionaries({"tolerations": st.lists(TOLERATIONS, max_size=1)})}
) | st.fixed_dictionaries({"metadata": st.fixed_dictionaries({"annotations": LABELS})})
