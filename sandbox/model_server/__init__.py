"""The API of `tensorflow_model_server`, by TensorFlow or by a simulated server.

`python -m sandbox.model_server --port=8500 --model_name=ctr --model_base_path=/models/ctr` starts it. In: its flags, a
base path, gRPC and REST calls. Out: TensorFlow Serving's replies and statuses. Imports `host/`, `streamer`'s features,
and the rule for names of versions from `model_training`.
"""
