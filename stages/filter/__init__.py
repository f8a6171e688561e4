"""Steps that drop rows and say why."""
