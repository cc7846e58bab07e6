"""`model-training` as a file that `spark-submit` takes: it knows a Python program by its ending."""

from model_training.commands import main

if __name__ == "__main__":
    main()
