"""The worker: real vLLM that prefills under one layout and decodes under another.

Only here live vLLM and torch. Policy comes from :mod:`seesaw_core`.
"""
