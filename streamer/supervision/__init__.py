"""Several workers on one machine: processes, standby, and the partitions of each.

In: the partitions that the group assigns to this machine, and what the worker processes report. Out: commands to these
processes, and commits for them. The supervisor is the machine's only group member. It does no work that can kill it, so
the group notices no death of a worker. `fleet` decides and is pure; `supervisor` acts.
"""
