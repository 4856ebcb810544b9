"""Keeps track of the workers, and chooses the one that gets a request."""
