"""``seesaw router``: one endpoint in front of workers."""

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Serve until a signal stops the router. Raises: InputError."""
    from seesaw_router.flags import settings_of

    settings = settings_of(arguments)
    from seesaw_router.server.process import Server

    return Server(settings).run()
