"""Requests for the models of `users_models`, with values that are missing, unknown or long."""

from typing import Any

WORDS = ["shoes", "car", "Ünïcode", "x" * 70]
"""The vocabulary of a two-tower ranker; its file has one of them a line."""

REQUESTS: list[dict[str, Any]] = [
    {
        "request_id": "all",
        "user": {"id": 7, "sex": "f", "likes": ["music", "sport"], "seen": [3, 999, 5, 6, 7]},
        "context": {"hour": 20},
        "candidates": [
            {"ad_id": "a", "category": "x", "item": 1, "bid": 1.25, "word": "shoes"},
            {"ad_id": "b", "category": "Kleidung & Schuhe für alle, die gern wandern gehen, 世界", "item": 2**40,
             "bid": 3, "word": "Ünïcode"},
            {"ad_id": "c", "category": "y", "item": 3, "bid": 0.1, "word": "not known"},
        ],
    },
    {
        "request_id": "some",
        "user": {"id": 499, "sex": "other", "likes": ["x" * 100], "seen": []},
        "context": {},
        "candidates": [
            {"ad_id": "d", "category": "", "item": None, "word": "x" * 70},
            {"ad_id": "e", "word": None},
        ],
    },
    {"request_id": "none", "user": {}, "context": {"hour": 3.5}, "candidates": [{"ad_id": "f", "bid": 7.5}]},
]  # fmt: skip
