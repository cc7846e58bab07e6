"""Training by several processes: parameter servers hold the variables, a chief and workers compute gradients."""
