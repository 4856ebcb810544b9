"""The router: one OpenAI-compatible endpoint in front of a set of workers.

The path of a request: ``server.proxy`` → ``server.requests`` (parses it once) →
``dispatch.dispatcher`` (queue and waves, by the policy in core) → a ``dispatch.backend`` → back
through ``server.proxy``.
"""
