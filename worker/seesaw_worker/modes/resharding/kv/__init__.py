"""The KV buffer in shared memory and vLLM's connector to it."""
