"""Injects faults under traffic; a consumer outside of the scorer counts lost and duplicate answers."""
