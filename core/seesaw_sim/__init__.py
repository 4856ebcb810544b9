"""A simulator of Seesaw and of what it competes with: discrete events on a virtual clock.

It folds the policies and costs of :mod:`seesaw_core` and decides nothing itself.
"""
