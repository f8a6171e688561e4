"""Steps that rename, sample, split, list, order and limit: they look at columns and keys, never at media."""
