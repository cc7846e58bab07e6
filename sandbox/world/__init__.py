"""Users, slots, ads and requests with known click probabilities; click logs drawn from them.

Guarantees: the same seed gives the same world in every process; what is shown does not depend on click probabilities.
In: seeds and sizes. Out: bid requests (JSON), click logs, true probabilities. Imports nothing of the sandbox.
"""
