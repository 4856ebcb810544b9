"""One host copy of the model, one weights arena per device, and the copies between them."""
