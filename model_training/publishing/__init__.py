"""Puts a version into service: comparison, gate, version numbers and labels.

Guarantees: a published version was compared with the newest and the best one; a label never names a version that is
not served.
In: an exported version and examples that it has not seen. Out: a new version with a model card, an updated label.
May import: `evaluation`, `export`, `data`, `config`, `errors`.
"""
