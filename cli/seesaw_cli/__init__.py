"""The ``seesaw`` command. Imports each part only when it is asked for."""
