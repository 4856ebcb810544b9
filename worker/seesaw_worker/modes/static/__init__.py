"""The static mode: plain vLLM under one layout."""
