"""One model a file, each a composition of layers on one screen."""
