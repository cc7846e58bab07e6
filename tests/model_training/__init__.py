"""Tests of model_training; a test loads TensorFlow unless it says otherwise."""
