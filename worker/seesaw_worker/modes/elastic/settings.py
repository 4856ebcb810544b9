"""What every process of an elastic engine must know, carried inside vLLM's configuration."""

import dataclasses
from dataclasses import dataclass
from typing import Any

_KEY = "seesaw_elastic"
DEFAULT_POLICY = "seesaw_core.elastic.manager.ElasticPolicy"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """Settings of the engine, and the number of the instance inside an instance's processes.

    ``cores`` (CPU only, else empty) has one entry per rank of one instance, or of all of them
    outside an instance. ``weights_folder`` is where the one host copy of the weights lies; empty if
    each instance keeps its own. ``policy`` names the class that plans. ``step_timeout_s`` bounds an
    iteration, ``peer_timeout_s`` one exchange in it; the latter is shorter, so that those who wait
    for a rank that hangs report first.
    """

    num_instances: int
    tensor: int
    number: int = 0
    cores: tuple[str, ...] = ()
    weights_folder: str = ""
    policy: str = DEFAULT_POLICY
    step_timeout_s: float = 60.0

    @property
    def peer_timeout_s(self) -> float:
        return self.step_timeout_s * 0.8

    def of_instance(self, number: int) -> "InstanceSettings":
        """Return the settings inside one instance."""
        first = number * self.tensor
        cores = self.cores[first : first + self.tensor]
        return dataclasses.replace(self, number=number, cores=cores)

    def added_to(self, additional_config: dict[str, Any]) -> dict[str, Any]:
        """Return vLLM's ``additional_config`` with these settings in it."""
        return additional_config | {_KEY: dataclasses.asdict(self)}

    @classmethod
    def of(cls, additional_config: dict[str, Any]) -> "InstanceSettings":
        fields = additional_config[_KEY]
        return cls(**fields | {"cores": tuple(fields["cores"])})
