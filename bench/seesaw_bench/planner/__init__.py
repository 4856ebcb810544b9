"""The planner's choices and predictions, held against simulations."""
