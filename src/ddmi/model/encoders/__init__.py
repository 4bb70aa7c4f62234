"""Encoders: discrete data x -> {plane: features}, one file for each kind of data."""
