"""Scores from rows of predictions, with NumPy alone: metrics, intervals, tables and plots."""
