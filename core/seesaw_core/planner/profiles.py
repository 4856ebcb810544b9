"""Profiles: what share of its data sheet a machine reaches, and what each step costs besides.

The built-in profile holds one set of constants for all devices. ``seesaw calibrate`` fits another
to measurements of the machine at hand; planner, operator and simulator read either.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf

from seesaw_core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Shares of data-sheet figures, and times. Units in the names; shares in (0, 1].

    Each field's ``source`` says where the built-in figure comes from.
    """

    name: str = "built-in"
    compute_share: float = field(
        default=0.75, metadata={"doc": "Share of peak FLOPS that large matrix products reach."}
    )
    attention_share: float = field(
        default=0.50, metadata={"doc": "Share of peak FLOPS that prefill attention reaches."}
    )
    memory_share: float = field(
        default=0.82, metadata={"doc": "Share of memory bandwidth that decoding reaches."}
    )
    roofline_power: float = field(
        default=4.0,
        metadata={
            "doc": "How well reading weights and arithmetic overlap: at 1 their times add up, and "
            "the larger it is, the nearer the sum comes to the longer of the two."
        },
    )
    host_share: float = field(
        default=0.85,
        metadata={
            "doc": "Share of a link that large copies reach: to the host, and from stage to stage."
        },
    )
    pcie_all_reduce_share: float = field(
        default=0.40, metadata={"doc": "Share of a PCIe link that an all-reduce reaches."}
    )
    pcie_fabric_links: float = field(
        default=4.0,
        metadata={"doc": "How many PCIe links' worth of all-reduces a host carries at a time."},
    )
    cross_socket_slowdown: float = field(
        default=2.0,
        metadata={"doc": "How much slower more than 4 PCIe devices all-reduce: two sockets."},
    )
    nvlink_all_reduce_share: float = field(
        default=0.70, metadata={"doc": "Share of a direct link that an all-reduce reaches."}
    )
    all_reduce_latency_us: float = field(
        default=10.0, metadata={"doc": "Time of an all-reduce of no bytes, per ring step."}
    )
    send_latency_us: float = field(
        default=20.0, metadata={"doc": "Time to send no bytes to the next pipeline stage."}
    )
    layer_overhead_us: float = field(
        default=10.0, metadata={"doc": "Time of a layer's small kernels and gaps."}
    )
    step_overhead_ms: float = field(
        default=2.0, metadata={"doc": "Scheduling and launching a step, not overlapped."}
    )
    request_overhead_us: float = field(
        default=10.0, metadata={"doc": "Sampling and bookkeeping of one request in a step."}
    )
    transition_overhead_ms: float = field(
        default=50.0, metadata={"doc": "A transition besides the copying of weights."}
    )
    memory_utilisation: float = field(
        default=0.90, metadata={"doc": "Share of device memory that the engine may use."}
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name == "name":
                continue
            value = getattr(self, f.name)
            is_share = f.name.endswith(("_share", "_utilisation"))
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise InputError(f"profile: {f.name}={value!r} must be a number")
            if is_share and not 0 < value <= 1:
                raise InputError(f"profile: {f.name}={value} must be above 0 and at most 1")
            if f.name == "roofline_power" and not value >= 1:
                raise InputError(f"profile: {f.name}={value} must be at least 1")
            if not is_share and not 0 <= value < inf:
                raise InputError(f"profile: {f.name}={value} must be finite and not negative")
            if f.name == "pcie_fabric_links" and not value > 0:
                raise InputError(f"profile: {f.name}={value} must be above 0")


def read_profile(text: str, *, source: str) -> Profile:
    """Read a profile, or what ``seesaw calibrate`` has written, which holds one.

    Raises: InputError naming ``source``, the field and what would be accepted.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not JSON: {error}") from error
    if isinstance(found, Mapping):
        found = found.get("profile", found)
    if not isinstance(found, Mapping):
        raise InputError(f"{source} must hold an object")
    known = {f.name for f in fields(Profile)}
    unknown = set(found) - known
    if unknown:
        raise InputError(f"{source}: {sorted(unknown)} unknown; known: {sorted(known)}")
    try:
        return Profile(**found)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
