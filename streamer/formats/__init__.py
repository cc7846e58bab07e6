"""The binary form of requests and answers: Protobuf, as `ctr.proto` describes it.

Guarantees: a request means the same in both forms; a message that cannot be read is a ValueError with a reason.
In: records with the content type `application/x-protobuf`. Out: documents with candidates; answers as bytes.
Imports features and types. Pure.

`ctr_pb2.py` and `ctr_pb2.pyi` are generated, from the root of the repository:
`python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. streamer/formats/ctr.proto`.
"""
