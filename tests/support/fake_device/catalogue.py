"""An invented accelerator with slow links and slow memory, so that plans need no large model."""

# For it the planner prefers tensor parallelism for long answers, and a pair for long prompts.
TOY = """\
[[interconnect]]
name = "slow"
kind = "pcie"
gb_per_s = 0.2

[[accelerator]]
name = "Toy"
memory_gib = 2
memory_gb_per_s = 0.5
tflops_16 = 0.5
host_link = "pcie4x16"
peer_link = "slow"
"""
