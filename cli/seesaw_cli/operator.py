"""``seesaw operator``: makes a cluster match its SeesawDeployments."""

import asyncio
import logging
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run until told to stop. Raises: InputError."""
    from seesaw_operator.flags import settings_of

    settings = settings_of(arguments)
    from seesaw_operator.main import run as run_operator

    logging.basicConfig(level=logging.INFO, format="seesaw operator: %(name)s: %(message)s")
    return asyncio.run(run_operator(settings))
