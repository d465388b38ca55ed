"""A grid of small trainings that differ in a few flags, and a report that compares them."""
