"""Recipes of generators, a module each: its sizes and its trainer."""
