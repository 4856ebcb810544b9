"""Routing: which prompts go to which replica and when, and which replicas get none for a while."""
