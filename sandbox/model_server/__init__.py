"""A stand-in for `tensorflow_model_server`: TensorFlow Serving's gRPC API on the TensorFlow runtime.

Start it with `python -m sandbox.model_server --port=8500 --model_name=ctr --model_base_path=/models/ctr`, or from
Python with `sandbox.model_server.process.ModelServerProcess`. Importing this package loads no TensorFlow.
"""
