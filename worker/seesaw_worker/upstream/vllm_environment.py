"""Environment variables of vLLM that re-sharding does not support."""

from collections.abc import Mapping
from dataclasses import dataclass

from seesaw_core.errors import UnsupportedError

_OFF = frozenset({"", "0", "false"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """The reason why a variable is refused, and the values that are harmless."""

    why: str
    allowed: frozenset[str] = _OFF


_ONE_ENGINE = "it configures one engine, but two would read it"
_HUB = "the checkpoint is read from the hub's cache or a folder; give the folder"

VARIABLES: Mapping[str, Variable] = {
    "VLLM_PP_LAYER_PARTITION": Variable(
        why="it divides the layers of one layout, and there are two", allowed=frozenset({""})
    ),
    "VLLM_TEST_FORCE_LOAD_FORMAT": Variable(
        why="it replaces the loader of the shared weights", allowed=frozenset({""})
    ),
    "VLLM_USE_MODELSCOPE": Variable(why=_HUB),
    "VLLM_MODEL_REDIRECT_PATH": Variable(why=_HUB, allowed=frozenset({""})),
    "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": Variable(why="a worker ends with its engines"),
    "VLLM_ENABLE_V1_MULTIPROCESSING": Variable(
        why="each engine is a process of its own", allowed=frozenset({"", "1", "true"})
    ),
    "VLLM_WORKER_MULTIPROC_METHOD": Variable(
        why="a server with threads cannot be forked", allowed=frozenset({"", "spawn"})
    ),
    "VLLM_USE_RUST_FRONTEND": Variable(why="the controller is part of vLLM's Python front end"),
    "VLLM_ELASTIC_EP_SCALE_UP_LAUNCH": Variable(why=_ONE_ENGINE),
    "VLLM_ENABLE_STARTUP_PLAN": Variable(why=_ONE_ENGINE),
    "VLLM_DP_SIZE": Variable(why=_ONE_ENGINE, allowed=frozenset({"", "1"})),
    "VLLM_DP_RANK": Variable(why=_ONE_ENGINE),
    "VLLM_DP_RANK_LOCAL": Variable(why=_ONE_ENGINE, allowed=frozenset({"", "-1", "0"})),
}

_PLUGINS, _OURS = "VLLM_PLUGINS", "seesaw"


def refuse_environment(environment: Mapping[str, str]) -> None:
    """Raises: UnsupportedError for a variable that re-sharding does not support."""
    for name, variable in VARIABLES.items():
        value = environment.get(name, "")
        if value.lower() not in variable.allowed:
            raise UnsupportedError(
                f"{name}={value} in the environment does not work with re-sharding: "
                f"{variable.why}; unset it, or use --reshard never"
            )
    plugins = environment.get(_PLUGINS)
    if plugins is not None and _OURS not in plugins.split(","):
        raise UnsupportedError(
            f"{_PLUGINS}={plugins} in the environment leaves out {_OURS!r}, the plugin that "
            "re-sharding needs; add it, or unset the variable"
        )
