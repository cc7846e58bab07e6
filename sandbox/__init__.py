"""The outside world on one machine, for demos, tests and benchmarks; not part of the wheel.

`__main__` > `demos/` `replay/` > `traffic/` sends and checks requests, `processes/` runs broker, server and scorer >
`broker/` Kafka, `model_server/` TensorFlow Serving's API, `world/` users, ads, clicks > `host/` ports, child processes.
"""
