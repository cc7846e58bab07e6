"""One equation a file. Layers are functions of tensors and of the variables that they are given; models own those."""
