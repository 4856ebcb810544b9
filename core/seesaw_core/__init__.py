"""Seesaw's policy: pure arithmetic over layouts, KV blocks and phases.

Knows no clock, network, torch, vLLM or Kubernetes. Times come in as durations, and every
decision goes out as a value together with its reason; the edges act on it and log it.
"""
