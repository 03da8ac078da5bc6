"""Recommendations: candidates from interests, negative feedback, popularity, diversity, explanations."""
