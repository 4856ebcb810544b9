"""The Seesaw paper's evaluation on the simulator."""
