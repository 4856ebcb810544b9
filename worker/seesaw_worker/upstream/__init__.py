"""What Seesaw must know of vLLM beyond its public interfaces: patches, flags, log filters."""
