"""The components of a SeesawDeployment: one module each, and the list of them in ``all``."""
