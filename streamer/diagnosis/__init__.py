"""Finds bad settings of topics, group and model servers. Pure.

In: the settings, and facts about the running system that the edges have read. Out: findings, each with its reason and
its remedy. Imports only `settings`.
"""
