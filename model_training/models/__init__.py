"""One model a file, each a composition of parts and layers on one screen; none imports another."""
