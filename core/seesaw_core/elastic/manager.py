"""The global manager: what each instance does next, decided anew for every iteration.

    reusing ──> dispatch ──> allocation ──> batching ──> scaling plan
    which prompts go where their prefixes are cached; of the others, which go, which instances they
    get, and which group; where KV stays, and who decodes

The manager is a pure function of a view, as every policy: it holds no state and reads no clock.
So a prefill that needs an instance inside a decode step is decided again once the step has ended;
meanwhile the other instances of its group start nothing.

Source: Wu et al., LoongServe (arXiv 2404.09526), section 5.
Deviation: the paper's iterations begin together; here each group goes on by itself.
"""

from dataclasses import dataclass, replace

from seesaw_core.elastic.allocation import Allocation, allocate
from seesaw_core.elastic.batching import divide
from seesaw_core.elastic.groups import DecodeGroup, decode_groups
from seesaw_core.elastic.reusing import reuse
from seesaw_core.elastic.scaling import scale_down, scale_up
from seesaw_core.elastic.view import Decode, Migrate, Plan, Preempt, Prefill, View


@dataclass(frozen=True, slots=True)
class ElasticPolicy:
    """Plans iterations of groups of instances. Implements :class:`seesaw_core.policies.Policy`."""

    def next_step(self, view: View) -> Plan:
        """Return the iterations to start on instances that are idle now."""
        if not view.idle:
            return Plan()
        groups = decode_groups(view)
        reused = reuse(view, groups)
        view, groups = reused.view, reused.groups
        allocation = allocate(view, groups)
        prefills: tuple[Prefill, ...] = ()
        if allocation.prompts and allocation.instances <= view.idle:
            prefills = _batches(view, allocation)
        migrations: tuple[Migrate, ...] = ()
        if allocation.migration and _is_at_rest(view, allocation.migration):
            migrations = (allocation.migration,)
        # Instances that do not begin what they are allocated for wait for those still in a step.
        plan = Plan(prefills=prefills, migrations=migrations)
        plan = _with_decodes(view, plan, allocation, groups)
        return replace(plan, prefills=(*reused.prefills, *plan.prefills))


def _is_at_rest(view: View, migration: Migrate) -> bool:
    """Whether no step has the instances, nor others that hold KV of the requests to be moved.

    Of a request on three instances, another migration may be moving the KV of the third.
    """
    requests = (r for r in view.decoding if migration.source in r.tokens_by_instance)
    holders = {instance for request in requests for instance in request.tokens_by_instance}
    return view.idle.issuperset(migration.instances) and view.stepping.isdisjoint(holders)


def _batches(view: View, allocation: Allocation) -> tuple[Prefill, ...]:
    prompts = sorted(allocation.prompts, key=lambda prompt: -prompt.num_tokens)
    instances = sorted(
        allocation.instances, key=lambda i: (-view.free_tokens[i], view.num_cached(i), i)
    )
    batches = divide(
        [prompt.num_tokens for prompt in prompts],
        [view.free_tokens[i] for i in instances],
        view.costs.prefill,
    )
    return tuple(
        scale_down(
            view,
            prompts[batch.first_prompt : batch.stop_prompt],
            instances[batch.first_instance : batch.stop_instance],
        )
        for batch in batches
    )


def _with_decodes(
    view: View, plan: Plan, allocation: Allocation, groups: list[DecodeGroup]
) -> Plan:
    """Let every group decode that is idle as a whole and has no allocated instance."""
    decodes: list[Decode] = []
    preemptions: list[Preempt] = []
    taken = allocation.instances
    if plan.prefills:  # the batches may leave some out
        taken = frozenset(i for prefill in plan.prefills for i in prefill.instances)
    spare = set(view.empty - taken)
    for group in groups:
        is_free = group.instances <= view.idle and taken.isdisjoint(group.instances)
        if not group.requests or not is_free:
            continue
        step = scale_up(view, group, spare)
        if isinstance(step, Decode):
            decodes.append(step)
        else:
            preemptions += [Preempt(key=request.key) for request in step]
    return replace(plan, decodes=tuple(decodes), preemptions=tuple(preemptions))
