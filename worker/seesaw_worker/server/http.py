"""Seesaw's own HTTP routes, and the application that answers while the engines load."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

from seesaw_core.writing import as_json
from seesaw_worker.server.telemetry import Telemetry

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_RETRY_AFTER_S = "5"


def routes(telemetry: Telemetry) -> APIRouter:
    """Return Seesaw's routes, which are served beside vLLM's."""
    router = APIRouter(prefix="/seesaw", tags=["seesaw"])

    @router.get("/state")
    async def state() -> Any:
        return as_json(telemetry.state())

    @router.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(telemetry.events(), media_type="text/event-stream")

    return router


def early_app(telemetry: Telemetry) -> FastAPI:
    """Return the application that answers until the engines are loaded."""
    app = FastAPI(openapi_url=None)
    app.include_router(routes(telemetry))

    @app.api_route("/{path:path}", methods=_METHODS)
    async def not_yet() -> JSONResponse:
        """Answer 503, not 404, which clients take as final: vLLM's routes come later."""
        answer = {"status": telemetry.detail, "error": {"message": "loading", "code": 503}}
        return JSONResponse(answer, status_code=503, headers={"Retry-After": _RETRY_AFTER_S})

    return app
