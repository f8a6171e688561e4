"""Models behind protocols: a stage knows the protocol, a recipe names the model."""
