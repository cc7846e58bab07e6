"""Quality of the models on rows with known click probabilities and on public logs."""
