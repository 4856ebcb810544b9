"""Plans that workers tell of: what is shown, what is proposed once, and what is applied."""

import dataclasses
import json
from typing import Any

import pytest

from seesaw_core.messages import PlanSummary, Proposal, Rejection
from seesaw_operator.api.parallelism import Elastic, Parallelism
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import AppliedWorkload, Plan, Status
from seesaw_operator.names import Owner
from seesaw_operator.objects.context import Context
from seesaw_operator.objects.worker import PLANNED_FOR, worker_objects
from seesaw_operator.settings import Images, Timing
from seesaw_operator.status import layout_plans

PROPOSAL = Proposal(
    prefill="P8",
    decode="T4P2",
    gain_percent=12,
    reason="prompts of 3,000",
    prompt_tokens=3000,
    output_tokens=300,
)
SUMMARY = PlanSummary(
    prefill="T8",
    decode="T8",
    reason="because",
    accelerator="L4",
    prompt_tokens=1000,
    output_tokens=250,
    predicted_tokens_per_s=400,
    baseline_tokens_per_s=400,
    gain_percent=0,
    num_running=32,
    rejected=(Rejection(layout="P8", reason="too small"),),
)
APPLIED = AppliedWorkload(prompt_tokens=3000, output_tokens=300, instead_of="-/-")
EARLIER = AppliedWorkload(prompt_tokens=1, output_tokens=2, instead_of="-/-")
OVER_5 = APPLIED.model_copy(update={"instead_of": "5/-"})


def told(proposed: Proposal | None = None, **more: Any) -> Plan:
    summary = dataclasses.replace(SUMMARY, proposed=proposed, **more)
    plan = layout_plans.plan_of(summary)
    assert plan is not None
    return plan


def spec(approval: str = "Automatic", **more: Any) -> Spec:
    body: dict[str, Any] = {"model": {"uri": "org/m"}, "accelerator": {"count": 8}}
    return Spec.model_validate(body | {"planning": {"approval": approval} | more})


MANUAL = Spec.model_validate(
    {
        "model": {"uri": "org/m"},
        "parallelism": {"prefill": {}, "decode": {}},
        "planning": {"approval": "Automatic"},
    }
)
ELASTIC = MANUAL.model_copy(
    update={"parallelism": Parallelism(mode="Elastic", elastic=Elastic(instances=2))}
)


def test_the_plan_is_what_the_worker_says() -> None:
    plan = told(PROPOSAL)
    assert (plan.prefill, plan.decode, plan.reason) == ("T8", "T8", "because")
    assert (plan.predicted_tokens_per_second, plan.baseline_tokens_per_second) == (400, 400)
    assert plan.rejected[0].layout == "P8"
    assert plan.proposed is not None
    assert plan.proposed.gain_percent == 12
    assert layout_plans.plan_of(None) is None


def test_a_worker_that_says_much_is_told_in_one_short_line() -> None:
    said = "first\n\x1b[31m" + "n" * 40_000
    much = dataclasses.replace(PROPOSAL, reason=said)
    plan = told(much, reason=said, rejected=(Rejection(layout="P8", reason=said),))
    assert plan.proposed is not None
    for reason in (plan.reason, plan.proposed.reason, plan.rejected[0].reason):
        assert reason.startswith("first · nnn")
        assert len(reason) == 1000


def test_something_is_proposed_only_if_all_workers_propose_the_same() -> None:
    other = dataclasses.replace(PROPOSAL, decode="T8")
    longer = dataclasses.replace(PROPOSAL, prompt_tokens=3100)
    same = layout_plans.agreed([told(PROPOSAL), told(longer)])
    assert same is not None
    assert same.proposed is not None
    assert same.proposed.prompt_tokens == 3000
    for odd in (told(other), told(None), None):
        plan = layout_plans.agreed([told(PROPOSAL), odd])
        assert plan is not None
        assert plan.proposed is None
    assert layout_plans.agreed([]) is None
    assert layout_plans.agreed([None]) is None


@pytest.mark.parametrize(
    ("wanted", "proposed", "is_settled", "before", "applied"),
    [
        pytest.param(spec(), PROPOSAL, True, None, APPLIED, id="automatic approval applies"),
        pytest.param(spec(), PROPOSAL, False, None, None, id="not while workers are replaced"),
        pytest.param(spec(), None, True, EARLIER, EARLIER, id="what was applied stays"),
        pytest.param(spec(), PROPOSAL, False, EARLIER, EARLIER, id="and stays in a rollout"),
        pytest.param(spec("Manual"), PROPOSAL, True, None, None, id="manual approval waits"),
        pytest.param(spec("Manual"), PROPOSAL, True, EARLIER, EARLIER, id="and takes nothing back"),
        pytest.param(spec(promptTokens=5), PROPOSAL, True, None, OVER_5, id="what is named begins"),
        pytest.param(spec(promptTokens=5), None, True, OVER_5, OVER_5, id="and is replaced"),
        pytest.param(spec(promptTokens=6), None, True, OVER_5, None, id="until another is named"),
        pytest.param(spec(outputTokens=5), None, True, EARLIER, None, id="or half of another"),
        pytest.param(MANUAL, PROPOSAL, True, EARLIER, None, id="layouts by hand have no plan"),
        pytest.param(ELASTIC, PROPOSAL, True, EARLIER, None, id="nor have elastic instances"),
    ],
)
def test_what_is_applied(
    wanted: Spec,
    proposed: Proposal | None,
    is_settled: bool,
    before: AppliedWorkload | None,
    applied: AppliedWorkload | None,
) -> None:
    found = layout_plans.applied_workload(wanted, told(proposed), before, is_settled=is_settled)
    assert found == applied


def stateful_set(applied: AppliedWorkload | None) -> dict[str, Any]:
    """The StatefulSet that the operator builds."""
    context = Context(
        spec=spec(),
        owner=Owner(name="llama", namespace="team", uid="1"),
        images=Images(worker="w", worker_cpu="c", router="r"),
        timing=Timing(),
        applied=applied,
    )
    return worker_objects(context)[-1]


def test_what_is_applied_goes_to_the_workers_and_is_remembered_on_their_stateful_set() -> None:
    applied = layout_plans.with_workload(spec(), APPLIED).planning
    assert (applied.prompt_tokens, applied.output_tokens) == (3000, 300)
    assert layout_plans.recorded_workload(stateful_set(APPLIED), Status()) == APPLIED
    assert "annotations" not in stateful_set(None)["metadata"]
    assert layout_plans.with_workload(spec(), None) == spec()
    over = layout_plans.with_workload(spec(promptTokens=5), OVER_5).planning
    assert (over.prompt_tokens, over.output_tokens) == (3000, 300)
    assert layout_plans.recorded_workload(stateful_set(OVER_5), Status()) == OVER_5


def recorded(prompt: str, output: str, instead_of: str = '"-/-"') -> str:
    return f'{{"promptTokens":{prompt},"outputTokens":{output},"insteadOf":{instead_of}}}'


@pytest.mark.parametrize(
    "workers",
    [
        None,
        {"metadata": {}},
        *(
            {"metadata": {"annotations": {PLANNED_FOR: text}}}
            for text in (
                "x",
                "3000/300 instead of -/-",  # as an earlier version recorded it
                recorded("9" * 5000, "1"),
                recorded("9" * 20, "1"),
                recorded("10000001", "1"),
                recorded("0", "0"),
                recorded("1", "1", "3"),
                recorded("true", "1"),
                recorded('"7"', "1"),
                recorded("1e3", "1"),
                "[" * 100_000,
            )
        ),
    ],
    ids=range(13),
)
def test_the_status_remembers_what_a_deleted_stateful_set_does_not(workers: Any) -> None:
    plan = told().model_copy(update={"applied": APPLIED})
    assert layout_plans.recorded_workload(workers, Status(plan=plan)) == APPLIED
    assert layout_plans.recorded_workload(workers, Status()) is None


@pytest.mark.parametrize("tokens", [0, -1, 10_000_001, 10**30])
def test_lengths_that_a_spec_could_not_name_reach_no_worker(tokens: int) -> None:
    odd = APPLIED.model_copy(update={"prompt_tokens": tokens})
    status = Status(plan=told().model_copy(update={"applied": odd}))
    assert layout_plans.recorded_workload(None, status) is None
    proposed = told(dataclasses.replace(PROPOSAL, output_tokens=tokens))
    found = layout_plans.applied_workload(spec(), proposed, EARLIER, is_settled=True)
    assert found == EARLIER


def test_while_no_worker_tells_what_was_told_last_stays() -> None:
    old = Status(plan=told(PROPOSAL))
    plan = layout_plans.plan_status(spec(), None, APPLIED, old)
    assert plan is not None
    assert plan.reason == "because"
    assert plan.applied == APPLIED
    assert layout_plans.plan_status(MANUAL, None, None, old) is None


def events(old: Status, new: Status, resource: dict[str, Any]) -> list[tuple[str, str]]:
    found = layout_plans.events(old, new, resource)
    return [(event.reason, event.message) for event in found]


def resource(approval: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "llama", "namespace": "team"},
        "spec": {"planning": {"approval": approval}},
    }


def test_a_proposal_is_news_once_and_says_how_to_approve() -> None:
    new = Status(plan=told(PROPOSAL))
    ((reason, message),) = events(Status(), new, resource("Manual"))
    assert reason == "PlanProposed"
    assert message.startswith("P8→T4P2 is predicted to give 12 % more than T8: prompts of 3,000.")
    _, _, patch = message.partition("-p '")
    assert "kubectl patch seesawdeployments llama -n team --type=merge" in message
    assert json.loads(patch.rstrip("'")) == {
        "spec": {"planning": {"promptTokens": 3000, "outputTokens": 300}}
    }
    assert len(message) < 1000
    again = Status(plan=told(dataclasses.replace(PROPOSAL, gain_percent=13)))
    assert events(new, again, resource("Manual")) == []
    assert events(new, Status(plan=told(None)), resource("Manual")) == []
    assert events(new, Status(), resource("Manual")) == []


def test_what_is_applied_is_news_once() -> None:
    old = Status(plan=told(PROPOSAL))
    plan = told(PROPOSAL).model_copy(update={"applied": APPLIED})
    ((reason, message),) = events(old, Status(plan=plan), resource("Automatic"))
    assert reason == "PlanApplied"
    assert "3000" in message
    assert events(Status(plan=plan), Status(plan=plan), resource("Automatic")) == []


def test_with_automatic_approval_nobody_is_asked_to_approve() -> None:
    new = Status(plan=told(PROPOSAL))
    ((_, message),) = events(Status(), new, resource("Automatic"))
    assert "kubectl" not in message
    assert "is applied" in message
