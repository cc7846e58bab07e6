"""Click logs become models, and models become versions that TensorFlow Serving serves.

    log ─▶ preparation ─▶ data ─▶ training ─▶ export ─▶ publishing ─▶ TensorFlow Serving
                                     ▲
                       models ◀─ parts ◀─ layers

A package imports only from lines below its own; packages of one line never import each other.

    commands/                                the command line, one file per command
    preparation/ distributed/ publishing/    Spark; several processes; the gate, versions and their labels
    training/                                one process: steps, optimizers, the loop
    early_stopping/                          the stopping rule, its examples, and the best model so far
    checkpoints  evaluation/  export/        a run on disk; quality of scores; SavedModel versions
    lineage/                                 how a version was made
    identity                                 all that decides the course of a run, as a folder records it
    data/  models/                           examples in memory and on disk; one model per file
    parts/                                   layers together with their variables
    layers/                                  one equation per file
    urls                                     paths by URL
    columns  config/  runtime                columns of encoded rows; config files; how TensorFlow is loaded
    calibration  errors                      maps from scores to click rates; all errors, sorted by the next action
"""
