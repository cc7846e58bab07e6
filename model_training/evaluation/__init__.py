"""Quality of click probabilities on labelled examples, confidence intervals, and a baseline.

Guarantees: everything is computed with NumPy, SciPy and scikit-learn; no TensorFlow is loaded.
In: labels and scores, `Examples`. Out: `Quality`, `Estimate`, files of predictions.
May import: `data`, `columns`, `errors`.
"""
