"""The operating system: ports, life of child processes, real-time priority, a TCP proxy.

Guarantees: a process that is bound to its parent never outlives it. In: port numbers, process ids, command lines.
Out: free ports, command lines, connections. Imports nothing of the sandbox but its errors.
"""
