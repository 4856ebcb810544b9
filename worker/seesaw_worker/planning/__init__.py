"""Layouts that the worker chooses itself, at its start and for the requests that it receives."""
