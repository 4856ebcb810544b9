"""The operator: makes a cluster match its SeesawDeployments.

Layers, each knowing only those to its right: ``handlers`` → ``reconcile`` → ``status`` and
``objects`` (pure) → ``api`` (typed models). ``cluster`` is the only module that talks to
Kubernetes, ``measure`` the only one that talks to workers.
"""
