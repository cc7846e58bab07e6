"""Settings of training, preparation and the gate: frozen values that are read from YAML.

Guarantees: an unknown or impossible setting is a `ConfigError` that names file, key and value. No TensorFlow is loaded.
In: `configs/*/*.yaml`. Out: `TrainingConfig`, `PrepareConfig`, `GateConfig`.
May import: `errors`, and from the scorer the feature spec.
"""
