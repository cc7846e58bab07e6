"""`model-training` as a Python file, which `spark-submit` requires."""

from model_training.commands import main

if __name__ == "__main__":
    main()
