"""The router: one OpenAI-compatible endpoint in front of a set of workers.

A request's way: ``proxy`` → ``dispatcher`` (queue and waves, by the policy in core) → a
``backend`` → back through ``proxy``.
"""
