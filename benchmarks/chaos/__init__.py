"""Injects faults under traffic; a separate consumer counts lost and duplicate answers."""
