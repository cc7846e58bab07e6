"""Tests of training: each loads TensorFlow unless it says otherwise."""
