"""A discrete-event simulator of Seesaw and of other serving systems, on a virtual clock.

It applies the policies and costs of :mod:`seesaw_core` and decides nothing itself.
"""
