"""The same job in other stream processors, each as its documents show it.

A peer takes a topic of bid requests and a running model server, and produces the same scores as the scorer:

- `confluent`: confluent-kafka's asyncio consumer and producer.
- `quix`: Quix Streams. `bytewax`: Bytewax. `faust`: faust-streaming.
- `kafka_streams`: Kafka Streams in Java, `kafka_streams/`.
- Plain aiokafka is `benchmarks.naive`.

`catalogue` has their settings, `environments` makes what they need under `build/peers/` at their first use, `scenario`
compares them (`python -m benchmarks peers`). A Python peer runs in a virtual environment of its own, so its file
imports only `scoring` and the packages of its `requirements/NAME.txt`; `scoring` uses `streamer.features`.
"""
