"""The operator: makes a cluster match its SeesawDeployments.

Layers, each of which knows only those to its right: ``loop`` → ``components`` → ``status`` and
``objects`` (pure) → ``api`` (typed models). Only ``cluster`` talks to Kubernetes, and only
``status.measure`` talks to workers.
"""
