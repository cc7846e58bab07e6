"""Turns click logs into models and models into servable versions."""
