"""Re-sharding: the phase policy, the KV ledger, and the KV and weights of each rank."""
