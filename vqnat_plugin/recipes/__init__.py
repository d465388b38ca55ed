"""Stages that resume, grids of trainings, and their reports."""
