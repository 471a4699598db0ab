"""Pretraining runs: recipes, the task, the monitor, the command."""
