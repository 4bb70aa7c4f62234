"""Generative models of continuous signals: a sample is a function."""
