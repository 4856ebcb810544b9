"""Generates reference pages and the Helm chart from code (`make docs`). Not in the wheel."""
