"""Searches for the best phones, and the n-grams that they weigh phones by."""
