"""The host copy of the model, the weights arena of each device, and the copies between them."""
