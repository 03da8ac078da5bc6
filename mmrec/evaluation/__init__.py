"""Evaluation: how well people are served, measured on events that nothing was fitted on."""
