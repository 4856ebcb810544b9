"""Re-sharding: the phase policy, the KV ledger behind it, and what each rank of a layout holds."""
