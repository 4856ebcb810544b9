"""Flags shared by the commands that plan or simulate."""
