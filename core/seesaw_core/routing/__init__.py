"""Routing: which prompts go to which replica and when, and which replicas are ejected."""
