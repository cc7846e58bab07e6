"""Replays the recorded calls of a real TensorFlow Serving on any server, and compares the answers.

`python -m tests.sandbox.model_server.recorded` prints what holds and what differs.
"""
