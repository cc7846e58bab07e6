"""Runs `docker-compose.yml` under podman and checks it: `python -m sandbox.containers`.

In: the compose file, the Dockerfiles of `deploy/`. Out: a table and an exit status. Docker Compose itself starts the
services, on podman's API; images that cannot be pulled have stand-ins, which the output names.
"""
