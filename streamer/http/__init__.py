"""Requests over HTTP: each gets one answer, the same as on the topic of answers.

In: `POST /v1/score`. Out: `Record`, for the same stages as a record of a topic; their message becomes the reply.
Nothing is stored: a request ends with its reply, or when its client leaves.
"""
