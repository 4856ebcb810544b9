"""Every route of the vLLM that is installed is passed, answered by the router, or withheld."""

import re
from pathlib import Path

import vllm

from seesaw_router.server.routes import OWN, ROUTES, WITHHELD

ENTRYPOINTS = Path(vllm.__file__).parent / "entrypoints"
DECORATED = re.compile(
    r"@\w*(?:router|app)\.(get|post|put|patch|delete|head|options|websocket)\(\s*\"([^\"]*)\""
)
ADDED = re.compile(r"\.add_api_route\(\s*\"([^\"]*)\".*?methods=\[\"(\w+)\"\]", re.DOTALL)


def routes_of_vllm() -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for path in ENTRYPOINTS.rglob("*.py"):
        text = path.read_text()
        found |= {(method.upper(), route) for method, route in DECORATED.findall(text)}
        found |= {(method.upper(), route) for route, method in ADDED.findall(text)}
    return {(method, re.sub(r"\{\w+\}", "{}", route)) for method, route in found}


def test_no_route_of_vllm_is_unknown_and_none_is_listed_that_vllm_lacks() -> None:
    routes = routes_of_vllm()
    assert ("POST", "/v1/responses/{}/cancel") in routes
    assert ("POST", "/inference/v1/abort_requests") in routes
    listed = {(route.method, route.template) for route in ROUTES}
    unknown = {r for r in routes - listed if r[1] not in WITHHELD and r[1] not in OWN}
    assert unknown == set()
    assert listed - routes == set()


def test_nothing_that_operates_a_worker_is_passed() -> None:
    assert {route.template for route in ROUTES} & (set(WITHHELD) | OWN) == set()
