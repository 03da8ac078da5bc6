"""Evaluation: how well users are served, measured on events that nothing was fitted on."""
