"""Public models: what the planner counts of their configs, beside what was published."""
