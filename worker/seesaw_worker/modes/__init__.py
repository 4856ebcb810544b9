"""Modes: ways in which one worker serves a model. Modes do not import each other."""
