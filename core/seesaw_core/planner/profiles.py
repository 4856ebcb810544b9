"""Profiles: what share of its data sheet a machine reaches, and what each step costs besides.

The built-in profile holds one set of constants for all devices. ``seesaw calibrate`` fits another
to measurements of the machine at hand; planner, operator and simulator read either.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from seesaw_core.errors import InputError
from seesaw_core.planner.bounds import shown


def _figure(default: float, doc: str, source: str) -> float:
    """A field with its meaning, and with the source of its built-in figure, for the reference."""
    figure: float = field(default=default, metadata={"doc": doc, "source": source})
    return figure


# A thousandth of a data sheet's figure is slower than any kernel measured; a thousand seconds in
# microseconds are longer than any overhead.
LEAST_SHARE = 0.001
MOST = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Shares of data-sheet figures, and times. Units in the names; shares in (0, 1].

    Each field carries a ``doc`` and the ``source`` of its built-in figure, which the reference
    prints. "Kernels" are those measured in NVIDIA's aiconfigurator-core 0.12 (PyPI): vLLM 0.14 to
    0.24 and NCCL 2.27 to 2.29 on L40S, A100, H100 and H200.
    """

    name: str = "built-in"
    compute_share: float = _figure(
        0.75,
        "Share of peak FLOPS that large matrix products reach.",
        "Kernels: medians of 0.64 (L40S), 0.79 (H200), 0.81 (H100) and 0.90 (A100).",
    )
    attention_share: float = _figure(
        0.50,
        "Share of peak FLOPS that prefill attention reaches.",
        "Kernels: medians of 0.41 to 0.44, nine in ten below 0.52 to 0.58.",
    )
    memory_share: float = _figure(
        0.82,
        "Share of memory bandwidth that decoding reaches.",
        "Kernels: medians of 0.71 to 0.86 for weights and 0.68 to 0.80 for KV.",
    )
    roofline_power: float = _figure(
        4.0,
        "How well reading weights and arithmetic overlap: at 1 their times add up, and the larger "
        "it is, the nearer the sum comes to the longer of the two.",
        "Kernels: matrix products are met best by 3 (H100, H200) and 1.5 (A100, L40S).",
    )
    host_share: float = _figure(
        0.85,
        "Share of a link that large copies reach: to the host, and from stage to stage.",
        "`tests/gpu/check_cuda_device.py`: 0.87 on an H200.",
    )
    pcie_all_reduce_share: float = _figure(
        0.40,
        "Share of a PCIe link that an all-reduce reaches.",
        "A round figure between kernels on L40S: 0.62 for two devices, 0.16 for four.",
    )
    pcie_fabric_links: float = _figure(
        4.0,
        "How many PCIe links' worth of all-reduces a host carries at a time.",
        "An assumption: half of eight devices may send at full speed. The kernels have no case.",
    )
    cross_socket_slowdown: float = _figure(
        2.0,
        "How much slower more than 4 PCIe devices all-reduce: two sockets.",
        "A round figure below kernels on L40S: 3.4 from four devices to eight.",
    )
    nvlink_all_reduce_share: float = _figure(
        0.70,
        "Share of a direct link that an all-reduce reaches.",
        "Kernels: 0.64 to 0.79 for two and four devices at their largest messages.",
    )
    all_reduce_latency_us: float = _figure(
        2.0,
        "Time of an all-reduce of no bytes, per ring step.",
        "Kernels: 1 to 5 from NCCL and in CUDA graphs.",
    )
    send_latency_us: float = _figure(
        20.0,
        "Time to send no bytes to the next pipeline stage.",
        "An assumption; `seesaw calibrate` measures it.",
    )
    layer_overhead_us: float = _figure(
        3.0,
        "Time of a layer's small kernels and gaps.",
        "Public runs of vLLM in 2025 on H100, H200 and B200: `make public-figures`.",
    )
    step_overhead_ms: float = _figure(
        0.75,
        "Scheduling and launching a step, not overlapped.",
        "The same runs, with asynchronous scheduling; `seesaw calibrate` measures it.",
    )
    request_overhead_us: float = _figure(
        30.0,
        "Sampling and bookkeeping of one request in a step.",
        "The same runs; `seesaw calibrate` measures it.",
    )
    transition_overhead_ms: float = _figure(
        50.0,
        "A transition besides the copying of weights.",
        "`seesaw bench worker`: 7 to 11 on two CPU ranks, where nothing is copied; more devices "
        "wait for the slowest.",
    )
    memory_utilisation: float = _figure(
        0.90,
        "Share of device memory that the engine may use.",
        "Just below vLLM's own default, which is 0.92 in version 0.32.",
    )

    sustained_share: float = _figure(
        0.55,
        "Share of peak FLOPS that matrix products sustain under the power limit, with "
        "`measured_kernels`, which were measured for an instant.",
        "Time to the first token in public runs of vLLM on H100, H200 and B200.",
    )
    elementwise_share: float = _figure(
        1.0,
        "Share of the bytes between matrix products that pass through memory, with "
        "`measured_kernels`; less than 1 where kernels are fused.",
        "vLLM's own kernels, each of which writes its result.",
    )
    measured_kernels: bool = field(
        default=True,
        metadata={
            "doc": "Whether times of kernels as measured on an accelerator replace those from its "
            "data sheet, where they are known: A100-SXM-80, L40S, RTX-PRO-6000, H100-SXM, H200, "
            "B200, B300 and GB200.",
            "source": "They meet public runs: `make public-figures`.",
        },
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "measured_kernels":
                if not isinstance(value, bool):
                    raise InputError(f"profile: {f.name}={shown(value)} must be true or false")
                continue
            if f.name == "name":
                if not isinstance(value, str) or len(value) > 200:
                    raise InputError(
                        f"profile: name={shown(value)} must be a text of at most 200 characters"
                    )
                continue
            is_share = f.name.endswith(("_share", "_utilisation"))
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise InputError(f"profile: {f.name}={shown(value)} must be a number")
            if is_share and not LEAST_SHARE <= value <= 1:
                raise InputError(
                    f"profile: {f.name}={shown(value)} must be from {LEAST_SHARE} to 1"
                )
            if f.name == "roofline_power" and not 1 <= value <= 1000:
                raise InputError(f"profile: {f.name}={shown(value)} must be from 1 to 1,000")
            if not is_share and not 0 <= value <= MOST:
                raise InputError(f"profile: {f.name}={shown(value)} must be from 0 to {MOST:,}")
            if f.name == "pcie_fabric_links" and not value >= 0.01:
                raise InputError(f"profile: {f.name}={shown(value)} must be at least 0.01")


def calibrated_device(text: str) -> str | None:
    """Return the accelerator on which ``seesaw calibrate`` has written a profile; None if it is
    not such a one."""
    content = json.loads(text)
    device = content.get("accelerator") if isinstance(content, dict) else None
    name = device.get("name") if isinstance(device, dict) else None
    return name if isinstance(name, str) else None


def read_profile(text: str, *, source: str) -> Profile:
    """Read a profile, or what ``seesaw calibrate`` has written, which holds one.

    Raises: InputError naming ``source``, the field and what would be accepted.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not JSON: {error}") from error
    if isinstance(content, Mapping):
        content = content.get("profile", content)
    if not isinstance(content, Mapping):
        raise InputError(f"{source} must hold an object")
    known = {f.name for f in fields(Profile)}
    unknown = set(content) - known
    if unknown:
        raise InputError(f"{source}: {sorted(unknown)} unknown; known: {sorted(known)}")
    try:
        return Profile(**content)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
