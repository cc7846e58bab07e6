"""Decides which version of a model scores which user, and carries it out.

Guarantees: only a verified, warmed version serves; its state changes in one pure function, by one transition table.
In: versions and labels of the model servers, outcomes of calls, orders. Out: the `PreparedVersion` of each record.
Imports no other package of its line: protocols stand for the model servers, the preparation and the score cache.
"""
