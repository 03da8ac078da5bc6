"""Offline evaluation on held-out events: metrics, confidence intervals, baselines, report."""
