"""What things are: samples, parts, messages, recipes, manifests, shards and the store. No Ray, no torch."""
