"""One operator at a time: the Lease, held for as long as this operator leads."""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from kubernetes.aio import client
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from seesaw_operator.cluster.api_errors import FAILURES, UNREACHABLE, error_text
from seesaw_operator.cluster.leases import WATCHES

logger = logging.getLogger(__name__)

_LEASE_S, _RENEW_S, _RETRY_S = 30, 20, 2
_CALL_S = 4.0  # so that a leader knows before its Lease runs out
_AGAIN_S = 0.1
_CONFLICT = 409
_MARGIN_S = 4.0  # so that it has ended by then


class _Lock(LeaseLock):
    """A lock that an unreachable apiserver delays, but does not break.

    ``ends_s`` is the time, by the monotonic clock, until which the Lease is certainly ours. It is
    counted from when the renewal was sent, whenever the answer came.
    """

    ends_s = 0.0

    def __init__(
        self, name: str, namespace: str, identity: str, api: client.ApiClient, watches: str
    ) -> None:
        super().__init__(name, namespace, identity, api)
        self._annotations = {WATCHES: watches}
        self._taken = asyncio.Event()

    async def get(self, name: str, namespace: str) -> Any:
        try:
            async with asyncio.timeout(_CALL_S):
                is_there, record = await super().get(name, namespace)
        except UNREACHABLE as error:
            return False, client.exceptions.ApiException(reason=repr(error))
        if is_there and self.ends_s and record.holder_identity != self.identity:
            self._taken.set()
        return is_there, record

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        # The library's own passes a value that the library's own client refuses.
        asked_s = time.monotonic()
        body = client.V1Lease(
            metadata=client.V1ObjectMeta(name=name, annotations=self._annotations),
            spec=self.update_lease(election_record),
        )
        try:
            async with asyncio.timeout(_CALL_S):
                await self.api_instance.create_namespaced_lease(namespace, body)
        except FAILURES as error:
            logger.warning("the Lease cannot be made: %s", error_text(error))
            return False
        self.ends_s = asked_s + _LEASE_S - _MARGIN_S
        return True

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        asked_s = time.monotonic()
        metadata = self.lease_reference.metadata
        metadata.annotations = (metadata.annotations or {}) | self._annotations
        try:
            async with asyncio.timeout(_CALL_S):
                if not await super().update(name, namespace, updated_record):
                    return False
        except UNREACHABLE:
            return False
        self.ends_s = asked_s + _LEASE_S - _MARGIN_S
        return True

    async def expired(self) -> None:
        """Wait until the Lease is, or may be, somebody else's. Requires: it was acquired."""
        while (left_s := self.ends_s - time.monotonic()) > 0 and not self._taken.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._taken.wait(), left_s)


class Lease:
    """The Lease ``NAMESPACE/NAME``, as seen by this process."""

    def __init__(
        self, api: client.ApiClient, namespace: str, name: str, watches: Iterable[str] = ()
    ) -> None:
        self._api, self._namespace, self._name = api, namespace, name
        self._watches = ",".join(watches)
        self._lock: _Lock | None = None
        self._identity = f"{socket.gethostname()}-{os.getpid()}"

    @property
    def is_certain(self) -> bool:
        """Whether the Lease is certainly ours. After a long suspension a process cannot know."""
        return self._lock is not None and time.monotonic() < self._lock.ends_s

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[asyncio.Event]:
        """Wait until the Lease is ours, and yield an event that is set once it is lost.

        The Lease is released at the end.
        """
        won, lost = asyncio.Event(), asyncio.Event()

        async def lead() -> None:
            won.set()
            await lost.wait()

        lock = self._lock = _Lock(
            self._name, self._namespace, self._identity, self._api, self._watches
        )
        election = LeaderElection(
            Config(
                lock,
                lease_duration=_LEASE_S,
                renew_deadline=_RENEW_S,
                retry_period=_RETRY_S,
                onstarted_leading=lead,
                onstopped_leading=None,
            )
        )
        logger.info("waiting for the Lease %s/%s", self._namespace, self._name)
        electing = asyncio.create_task(election.run())
        electing.add_done_callback(lambda _: lost.set())
        waiting = asyncio.create_task(won.wait())
        expiring: asyncio.Task[None] | None = None
        try:
            await asyncio.wait((electing, waiting), return_when=asyncio.FIRST_COMPLETED)
            if electing.done():
                await electing  # its error says why
            expiring = asyncio.create_task(lock.expired())
            expiring.add_done_callback(lambda _: lost.set())
            yield lost
        finally:
            waiting.cancel()
            electing.cancel()
            if expiring is not None:
                expiring.cancel()
            if won.is_set():  # whether it is ours still, the apiserver knows
                await self._give_back()

    async def _give_back(self) -> None:
        """Release the Lease, so that the next operator need not wait until it expires.

        A renewal that is under way may come between reading and writing; then this tries again.
        """
        leases = client.CoordinationV1Api(self._api)
        with contextlib.suppress(*UNREACHABLE):
            async with asyncio.timeout(_CALL_S):
                while not await self._release(leases):
                    await asyncio.sleep(_AGAIN_S)

    async def _release(self, leases: client.CoordinationV1Api) -> bool:
        """Returns False if it is worth another try."""
        try:
            lease = await leases.read_namespaced_lease(self._name, self._namespace)
            if lease.spec.holder_identity == self._identity:
                lease.spec.holder_identity = ""
                await leases.replace_namespaced_lease(self._name, self._namespace, lease)
        except client.exceptions.ApiException as error:
            status: int | None = error.status
            return status != _CONFLICT
        return True
