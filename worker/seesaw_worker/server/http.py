"""The HTTP half of the server: our routes, and uvicorn set up by vLLM's flags."""

import contextlib
from argparse import Namespace
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from vllm import envs
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.entrypoints.launchers.utils.ssl import SSLCertRefresher

from seesaw_worker.server.telemetry import Telemetry

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_RETRY_AFTER_S = "5"


class QuietServer(uvicorn.Server):
    """A server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def routes(telemetry: Telemetry) -> APIRouter:
    """Our own routes, beside vLLM's."""
    router = APIRouter(prefix="/seesaw", tags=["seesaw"])

    @router.get("/state")
    async def state() -> Any:
        return telemetry.state()

    @router.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(telemetry.events(), media_type="text/event-stream")

    return router


def early_app(telemetry: Telemetry) -> FastAPI:
    """What answers until the engines are loaded."""
    app = FastAPI(openapi_url=None)
    app.include_router(routes(telemetry))

    @app.api_route("/{path:path}", methods=_METHODS)
    async def not_yet() -> JSONResponse:
        """Not 404, which clients take for good: every route of vLLM's is to come."""
        answer = {"status": telemetry.detail, "error": {"message": "loading", "code": 503}}
        return JSONResponse(answer, status_code=503, headers={"Retry-After": _RETRY_AFTER_S})

    return app


def certificate_refresher(config: uvicorn.Config, args: Namespace) -> SSLCertRefresher | None:
    """Takes up renewed certificates while serving, where the flag asks for it."""
    if not args.enable_ssl_refresh or config.ssl is None:
        return None
    return SSLCertRefresher(
        ssl_context=config.ssl,
        key_path=config.ssl_keyfile,
        cert_path=config.ssl_certfile,
        ca_path=config.ssl_ca_certs,
    )


def uvicorn_config(app: FastAPI, args: Namespace) -> uvicorn.Config:
    """vLLM's HTTP flags as its own server takes them."""
    log_config = get_uvicorn_log_config(args)
    logs = {} if log_config is None else {"log_config": log_config}
    config = uvicorn.Config(
        app,
        host=args.host,
        port=args.port,
        log_level=args.uvicorn_log_level,
        access_log=not args.disable_uvicorn_access_log,
        ssl_keyfile=args.ssl_keyfile,
        ssl_certfile=args.ssl_certfile,
        ssl_ca_certs=args.ssl_ca_certs,
        ssl_cert_reqs=args.ssl_cert_reqs,
        ssl_ciphers=args.ssl_ciphers,
        timeout_keep_alive=envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
        **logs,
    )
    for limit in ("h11_max_incomplete_event_size", "h11_max_header_count"):
        if getattr(args, limit) is not None:
            setattr(config, limit, getattr(args, limit))
    return config
