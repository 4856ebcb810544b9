"""Layouts that the worker chooses itself: its question to the planner, and later answers."""
