"""How good the models are: on rows whose true click probabilities are known, and on public logs."""
