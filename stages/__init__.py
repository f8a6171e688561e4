"""What a step does. A stage is one small class; it imports no Ray, so it can be tried in a notebook."""
