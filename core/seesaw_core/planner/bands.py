"""How far predictions may be off, by what they were made of.

Two errors are told apart. That of kernels and software is much the same under all layouts of a
device, so it is wide for a figure and narrow for a comparison. That of links over PCIe, where
nobody measured them, favours some layouts over others; it is found by predicting once more with the
links of the slowest and of the fastest such server of which measurements are public.

Source: ``make public-figures``. Nine in ten of its runs are within 15 % with measured kernels and
within 35 % with those of data sheets; the medians of the layouts of one device and model are mostly
within 5 and 10 % of each other. Mixtures of experts are predicted from data sheets, and are further
off. The servers are two with eight L40S: one in aiconfigurator-core
0.12 (PyPI), whose all-reduces run at 5.2 GB/s over four devices, and that of TensorRT-LLM's
throughputs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from seesaw_core.layouts import Layout
from seesaw_core.planner.accelerators import Accelerator, Interconnect
from seesaw_core.planner.kernels.kernels import kernels_of
from seesaw_core.planner.kernels.measured import MeasuredKernels
from seesaw_core.planner.models import Model
from seesaw_core.planner.profiles import Profile

# Of the bandwidth of a PCIe 4 slot, 31.5 GB/s: what a server without peer-to-peer is taken to have.
_SLOW_LINK, _SLOW_FABRIC = 13 / 31.5, 20.8 / 31.5
_SLOWER_STILL = 0.5  # public runs on eight L4 may have had links half as fast as those


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Bounds of a figure or of a ratio, as factors of the prediction or as ratios themselves."""

    low: float
    high: float

    def widened(self, error: float) -> "Band":
        return Band(low=self.low * (1 - error), high=self.high * (1 + error))

    @property
    def holds_one(self) -> bool:
        """Whether a ratio may be below as well as above 1: too close to call."""
        return self.low <= 1 <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Known errors of predictions, as shares: of a figure, and of two layouts' ratio."""

    figure: float
    compared: float


_MEASURED = Errors(figure=0.15, compared=0.05)
_SHEET = Errors(figure=0.35, compared=0.10)
_EXPERTS = Errors(figure=0.45, compared=0.10)  # whose tokens are predicted 40 % too fast


def known_errors(
    model: Model, device: Accelerator, profile: Profile, *, is_calibrated: bool
) -> Errors:
    """Return the errors of what is predicted for a model on a device, links left out."""
    if is_calibrated or is_measured(model, device, profile):
        return _MEASURED
    return _EXPERTS if model.has_experts else _SHEET


def is_measured(model: Model, device: Accelerator, profile: Profile) -> bool:
    """Whether the kernels of such a model were measured on the device."""
    kernels = kernels_of(model, device, Layout(), profile)
    return isinstance(kernels, MeasuredKernels) and kernels.has_model


def other_links(
    device: Accelerator, profile: Profile, *, is_calibrated: bool
) -> tuple[tuple[Accelerator, Profile], ...]:
    """Return the device and profile with slower and with faster links; none if they are known."""
    link = device.peer_link
    if is_calibrated or link.kind != "pcie":
        return ()
    if link.fabric_bytes_per_s is not None:
        slow = _scaled(link, _SLOWER_STILL, _SLOWER_STILL * link.fabric_bytes_per_s)
        fast = _scaled(link, 1 / _SLOW_LINK, None)
        return (replace(device, peer_link=slow), profile), (
            replace(device, peer_link=fast),
            profile,
        )
    slow = _scaled(link, _SLOW_LINK, _SLOW_FABRIC * link.bytes_per_s)
    fastest = replace(
        profile, pcie_all_reduce_share=0.6, pcie_fabric_links=8.0, cross_socket_slowdown=1.2
    )
    return (replace(device, peer_link=slow), profile), (device, fastest)


def ratio_band(ratios: Iterable[float], errors: Errors) -> Band:
    """Return the band of a comparison from its ratio under each choice of links."""
    found = list(ratios)
    return Band(low=min(found), high=max(found)).widened(errors.compared)


def _scaled(link: Interconnect, factor: float, fabric_bytes_per_s: float | None) -> Interconnect:
    return replace(
        link, bytes_per_s=factor * link.bytes_per_s, fabric_bytes_per_s=fabric_bytes_per_s
    )
