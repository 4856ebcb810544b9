"""The router: one OpenAI-compatible endpoint in front of a set of workers.

A request's way: ``server.proxy`` → ``server.requests`` (read once) → ``dispatch.dispatcher``
(queue and waves, by the policy in core) → a ``dispatch.backend`` → back through ``server.proxy``.
"""
