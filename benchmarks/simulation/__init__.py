"""A discrete-event model of a fleet: partitions, workers, model servers; on SimPy's clock.

`costs` has the measured costs, `cores` the machines, `server` and `worker` the two programs, `partitions` the keys,
`fleet` the whole with its faults. Workers use the scorer's own queue, latency model, limits, circuits and assignment.
"""
