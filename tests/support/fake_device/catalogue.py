"""A made-up accelerator whose plans need no large model: links are slow, and so is its memory."""

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
