"""vLLM's engines and the controller that gives the devices to one of them at a time."""
