"""SavedModel versions: how they are written, and how they are loaded and checked.

Guarantees: a version appears whole or not at all, is never overwritten, and has its feature spec and warm-up requests.
In: a trained model and its feature spec. Out: a version's folder, `Servable`.
May import: `lineage`, `models`, `parts`, `errors`, and from the scorer the feature layout.
"""
