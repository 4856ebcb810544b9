"""All workers behind a router, and which of them are trusted with requests."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from seesaw_core.routing.ejection import Ejection, EjectionPolicy, Ejector, Outcome, Standing
from seesaw_router.dispatch.backend import Backend, Target
from seesaw_router.dispatch.connections import Connections

logger = logging.getLogger(__name__)

_MAX_SHOWN = 8


class Backends:
    """All known workers, and which of them are trusted with requests.

    Call order: :meth:`set_targets` whenever the workers change; :meth:`close` at the end.
    follow: starts a task that keeps a backend up to date for ever.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        follow: Callable[[Backend], "asyncio.Task[None]"],
        on_change: Callable[[], None],
        ejection: EjectionPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._follow = follow
        self._on_change = on_change
        self._now = clock
        self._ejector = Ejector(ejection or EjectionPolicy())
        self._known: dict[str, Backend] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def set_targets(self, targets: Iterable[Target]) -> None:
        """Follow exactly these workers."""
        wanted = {t.name: t for t in targets}
        for name in self._known.keys() - wanted.keys():
            self._forget(name)
        for name, target in wanted.items():
            known = self._known.get(name)
            if known is not None and known.target.url == target.url:
                known.target = target
                continue
            if known is not None:
                self._forget(name)
            backend = Backend(target, self._connections, self._on_change, self._now)
            self._known[name] = backend
            self._tasks[name] = self._follow(backend)
        self._on_change()

    def all(self) -> list[Backend]:
        return list(self._known.values())

    def named(self, name: str) -> Backend:
        return self._known[name]

    def serving(self) -> list[Backend]:
        return [b for b in self._known.values() if b.is_serving]

    def trusted(self) -> list[Backend]:
        """Returns the workers that get requests: all that serve, except ejected ones.

        If more are ejected than the policy allows, because others have gone since then, all
        workers that serve are returned. The one whose last request is oldest comes first.
        """
        serving = sorted(self.serving(), key=lambda b: b.last_sent)
        if not self._ejector.is_any_ejected:
            for backend in serving:
                backend.share = 1.0
            return serving
        trusted = []
        for backend in serving:
            if self.standing(backend) in (Standing.FULL, Standing.RETURNING):
                backend.share = self._ejector.share(backend.target.name, self._now())
                trusted.append(backend)
        num_ejected = len(serving) - len(trusted)
        if num_ejected > self._ejector.policy.max_ejected(len(serving)):
            for backend in serving:
                backend.share = 1.0
            return serving
        return trusted

    def due_for_trial(self) -> Backend | None:
        """Returns an ejected worker that is due for one trial request, if there is one."""
        if not self._ejector.is_any_ejected:
            return None
        for backend in self.serving():
            if self.standing(backend) is Standing.PROBING:
                return backend
        return None

    def standing(self, backend: Backend) -> Standing:
        return self._ejector.standing(backend.target.name, self._now())

    def ejection(self, backend: Backend) -> Ejection | None:
        """Returns why a worker gets less than its full share; None if it gets all of it."""
        if self.standing(backend) is Standing.FULL:
            return None
        return self._ejector.ejection(backend.target.name)

    def observe(
        self, backend: Backend, outcome: Outcome, took_s: float | None = None
    ) -> Ejection | None:
        """Record the outcome of a request, and how long it took once its worker was chosen.

        Returns the ejection that this outcome causes, if any.
        """
        if outcome is Outcome.ANSWERED:
            if took_s is not None:
                self._ejector.observe_duration(took_s)
        else:
            backend.linger(self._ejector.typical_s)
        name = backend.target.name
        if outcome is Outcome.DECLINED or self._known.get(name) is not backend:
            return None  # a full worker is not at fault, and a replaced one is of no interest
        is_good = outcome is Outcome.ANSWERED
        among = () if is_good else tuple(b.target.name for b in self.serving())
        ejection = self._ejector.observe(name, outcome, now_s=self._now(), among=among)
        if ejection is not None:
            logger.warning(
                "worker %s gets no requests for %g s: %s", name, ejection.for_s, ejection
            )
        return ejection

    def begin_trial(self, backend: Backend) -> None:
        self._ejector.begin_trial(backend.target.name)

    def end_trial(self, backend: Backend) -> None:
        """Requires: the outcome of the trial, if any, has been observed."""
        self._ejector.end_trial(backend.target.name)

    def why_none_serves(self) -> str:
        """Returns a text that names each worker and why it does not serve."""
        shown = [f"{b.target.name}: {b.why_not_serving}" for b in self.all()[:_MAX_SHOWN]]
        more = len(self._known) - len(shown)
        if not shown:
            return "no worker is known"
        return "; ".join(shown) + (f"; and {more} more" if more else "")

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for name in list(self._known):
            self._forget(name)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, name: str) -> None:
        self._tasks.pop(name).cancel()
        self._known.pop(name).cancel_all()
        self._ejector.forget(name)
