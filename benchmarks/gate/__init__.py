"""Simulates the gate on models with a known truth: how often it passes a worse model, and rejects a good one."""
