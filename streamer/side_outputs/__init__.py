"""Side outputs: scores of the shadow version and the feature log, beside the answers.

Guarantees: an answer never waits for a side output; its queue is bounded; dropped and failed requests are counted.
In: answered records, and the encoded rows of scored requests. Out: messages on the shadow and feature-log topics.
Imports prepared_version, codec, features, types and errors; functions stand for the model servers and the sink.
"""
