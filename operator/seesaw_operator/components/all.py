"""The list of components. Conditions and troubles are reported in this order."""

from seesaw_operator.components.router import ROUTERS
from seesaw_operator.components.worker import WORKERS

COMPONENTS = (WORKERS, ROUTERS)
