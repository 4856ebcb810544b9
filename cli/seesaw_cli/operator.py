"""``seesaw operator``: makes a cluster match its SeesawDeployments."""

import asyncio
import logging
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run until told to stop."""
    from seesaw_operator.flags import settings_of
    from seesaw_operator.main import run as run_operator

    settings = settings_of(arguments)
    logging.basicConfig(level=logging.INFO, format="seesaw operator: %(name)s: %(message)s")
    return asyncio.run(run_operator(settings))
