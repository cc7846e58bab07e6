"""Operations: the HTTP port of a worker or supervisor, and the supervisor's processes.

In: a worker's metrics, state and models, through Protocols; or, for a supervisor, its workers' sockets. Out: pages
for health, metrics, status, settings and model versions; worker processes that restart, reload and drain. No page
shows a secret. Imports `settings`, `metrics`, `tasks` and `errors` of the scorer.
"""
