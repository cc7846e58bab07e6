"""Simulates the gate on models with a known truth, and counts its wrong decisions."""
