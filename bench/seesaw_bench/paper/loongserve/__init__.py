"""The LoongServe paper's evaluation on the simulator."""
