"""A worker's pod on a real kube-apiserver, behind which a stand-in answers."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp.test_utils import TestServer

from support.control_plane.apiserver import ApiServer
from support.control_plane.resources import path, put_pod, set_pod_status
from support.fake_worker.engine import Engine, application


@contextlib.asynccontextmanager
async def worker_pod(server: ApiServer, namespace: str, engine: Engine) -> AsyncIterator[None]:
    """A ready pod of the StatefulSet, behind which a stand-in answers."""
    async with TestServer(application(engine)) as listening:
        found = await server.get(path(namespace, "statefulsets", "llama-worker"))
        template = found["spec"]["template"]
        template["spec"]["containers"][0]["ports"][0]["containerPort"] = listening.port
        await put_pod(server, namespace, template)
        await set_pod_status(
            server,
            namespace,
            podIP="127.0.0.1",
            podIPs=[{"ip": "127.0.0.1"}],
            conditions=[{"type": "Ready", "status": "True"}],
        )
        yield
