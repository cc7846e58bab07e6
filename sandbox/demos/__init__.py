"""`make demo` and `make train-demo`: the whole system on one machine, with a report.

Guarantees: every process is ended at the exit of the program; the exit status is 0 only if every answer is correct.
In: options, an output folder. Out: tables, `report.json`, `report.png`. Imports all other packages but `replay/`.
"""
