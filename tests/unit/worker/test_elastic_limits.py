"""What elastic instances do not go with is refused by name, with the way out."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from seesaw_core.errors import LayoutError, UnsupportedError
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import Owner
from seesaw_operator.settings import Images
from seesaw_worker.modes.elastic.limits import refuse_devices, refuse_flags, refuse_models
from seesaw_worker.server.commandline import parse, vllm_defaults
from seesaw_worker.server.settings import settings_of
from seesaw_worker.upstream.vllm_flags import BY_FLAG, Scope
from support.resource_status.built import built


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("model"))


def refuse(model: str, *flags: str) -> None:
    """As ``seesaw worker`` does, which makes its settings of the flags first."""
    args = parse([model, "--elastic-instances=2", *flags])
    settings_of(args)
    refuse_flags(args, vllm_defaults())


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--tensor-parallel-size=2",),
        ("--no-enable-prefix-caching",),
        ("--block-size=64", "--kv-cache-memory-bytes=1000000", "--max-num-seqs=3"),
        ("--weights=resident",),
        ("--enforce-eager", "--seed=3", "--max-logprobs=5"),
    ],
)
def test_flags_of_vllm_and_ours_are_taken(model: str, flags: tuple[str, ...]) -> None:
    refuse(model, *flags)


def test_what_the_operator_gives_to_a_pod_is_taken(model: str) -> None:
    spec = {
        "model": {"uri": model, "maxModelLen": 512},
        "accelerator": {"resourceName": "cpu", "count": 4},
        "parallelism": {"mode": "Elastic", "elastic": {"instances": 2, "tensor": 2}},
    }
    owner = Owner(name="llama", namespace="team", uid="1")
    images = Images(worker="w", worker_cpu="c", router="r")
    (found,) = (
        each
        for each in built(Spec.model_validate(spec), owner, images)
        if each["kind"] == "StatefulSet"
    )
    (container,) = found["spec"]["template"]["spec"]["containers"]
    args = parse(container["args"][1:])
    refuse_flags(args, vllm_defaults())
    settings = settings_of(args)
    assert (settings.elastic_instances, settings.decode.tensor) == (2, 2)


@pytest.mark.parametrize(
    "flag",
    [
        "--enable-lora",
        "--pipeline-parallel-size=2",
        "--scheduling-policy=priority",
        "--kv-cache-dtype=fp8",
        "--scheduler-cls=mine.Scheduler",
        "--worker-extension-cls=mine.Extension",
        "--data-parallel-size=2",
        "--enable-expert-parallel",
        "--reshard=always",
        "--verify-kv",
        "--kv-buffer-gib=2.0",
        "--low-watermark=0.4",
        "--prefill-pipeline-parallel-size=2",
        "--prefill-tensor-parallel-size=2",
    ],
)
def test_what_does_not_go_with_instances_is_refused(model: str, flag: str) -> None:
    with pytest.raises(UnsupportedError) as refusal:
        refuse(model, flag)
    assert str(refusal.value).startswith(f"{flag} does not go with --elastic-instances")
    assert str(refusal.value).endswith("drop --elastic-instances")


def test_what_replaces_a_part_of_vllm_is_refused_as_for_re_sharding() -> None:
    assert BY_FLAG["scheduler_cls"].refused is Scope.RESHARDING
    assert BY_FLAG["speculative_config"].refused is Scope.RESHARDING


def test_instances_must_use_the_devices(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(parse([model, "--elastic-instances=3", "--tensor-parallel-size=2"]))
    refuse_devices(settings)
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1|2|3")
    with pytest.raises(LayoutError, match=r"takes 6 devices, but .* has 4; give sizes whose"):
        refuse_devices(settings)


PLAIN = {
    "model": "m",
    "runner_type": "generate",
    "is_encoder_decoder": False,
    "is_hybrid": False,
    "is_attention_free": False,
    "use_mla": False,
    "is_multimodal_model": False,
    "hf_text_config": SimpleNamespace(),
    "get_sliding_window": lambda: None,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"get_sliding_window": lambda: 96}, "sliding window"),
        ({"use_mla": True}, "latent attention"),
        ({"is_hybrid": True}, "recurrent state"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"is_multimodal_model": True}, "takes media"),
        ({"hf_text_config": SimpleNamespace(attention_chunk_size=8192)}, "chunks of keys"),
        ({"hf_text_config": SimpleNamespace(attn_logit_softcapping=50.0)}, "caps its scores"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_models_of_another_attention_are_refused(change: dict[str, Any], reason: str) -> None:
    refuse_models(cast("Any", SimpleNamespace(model_config=SimpleNamespace(**PLAIN))))
    changed = SimpleNamespace(**PLAIN | change)
    with pytest.raises(UnsupportedError, match=f"{reason}.*; drop --elastic-instances"):
        refuse_models(cast("Any", SimpleNamespace(model_config=changed)))
