"""The contracts for programs in other languages: JSON Schemas and an AsyncAPI document.

In: settings (topics, bounds), a feature spec (fields and their kinds), the types of `streamer`. Out: a JSON Schema
(2020-12) of each message, and an AsyncAPI 3.0 document of the topics. The files beside this one are those of the
default settings without a spec; `streamer schema --to streamer/schemas` writes them. Pure.

A schema is the contract of a sender. What it accepts, the scorer accepts, except that JSON Schema cannot say that
columns are equally long. The codec accepts more: `docs/clients.md` lists it.
"""
