"""Scores, latencies and the report that holds both."""
