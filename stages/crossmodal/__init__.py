"""Steps that bring several flows or kinds of media together."""
