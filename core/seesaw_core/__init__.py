"""Seesaw's policy: pure arithmetic over layouts, KV blocks and phases.

The package knows no clock, network, torch, vLLM or Kubernetes. Times are arguments, and every
decision is a value with its reason, on which the other parts act and which they log.
"""
