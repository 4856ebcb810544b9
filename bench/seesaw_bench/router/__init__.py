"""``seesaw bench router``: what a router costs, beside nginx and another Python proxy."""
