"""vLLM's OpenAI server: its application, and uvicorn configured by vLLM's flags."""

import contextlib
from argparse import Namespace
from typing import Any

import uvicorn
from fastapi import FastAPI
from vllm import envs
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.entrypoints.launchers.utils.ssl import SSLCertRefresher


async def openai_app(client: EngineClient, args: Namespace) -> FastAPI:
    """Return vLLM's application with all its routes, served by ``client``."""
    tasks = await client.get_supported_tasks()
    app: FastAPI = build_app(args, tasks, client.model_config)
    await init_app_state(client, app.state, args, tasks)
    return app


class QuietServer(uvicorn.Server):
    """A server that does not handle signals, which the worker does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def certificate_refresher(config: uvicorn.Config, args: Namespace) -> SSLCertRefresher | None:
    """Return what reloads renewed certificates while serving, if the flag asks for it."""
    if not args.enable_ssl_refresh or config.ssl is None:
        return None
    return SSLCertRefresher(
        ssl_context=config.ssl,
        key_path=config.ssl_keyfile,
        cert_path=config.ssl_certfile,
        ca_path=config.ssl_ca_certs,
    )


def uvicorn_config(app: FastAPI, args: Namespace, *, is_quiet: bool = False) -> uvicorn.Config:
    """Return uvicorn's configuration as vLLM sets it. A quiet server logs only errors."""
    log_config = get_uvicorn_log_config(args)
    logs = {} if log_config is None else {"log_config": log_config}
    config = uvicorn.Config(
        app,
        host=args.host,
        port=args.port,
        log_level="error" if is_quiet else args.uvicorn_log_level,
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
