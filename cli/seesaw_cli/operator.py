"""``seesaw operator``: makes a cluster match its SeesawDeployments."""

import asyncio
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run until a signal stops the operator. Raises: InputError."""
    from seesaw_flags.logs import configure_logs
    from seesaw_operator.flags import settings_of

    settings = settings_of(arguments)
    from seesaw_operator.main import run as run_operator

    configure_logs(settings.log)
    return asyncio.run(run_operator(settings))
