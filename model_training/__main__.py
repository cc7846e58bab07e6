"""`python -m model_training`."""

from model_training.commands import main

main()
