"""Steps that rename, sample, order and limit: they look at columns and keys, never at media."""
