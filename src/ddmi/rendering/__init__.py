"""Rendering: pure functions of a callable field."""
