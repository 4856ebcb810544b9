"""Dispatch: which workers there are, what each is doing, and which one gets a request."""
