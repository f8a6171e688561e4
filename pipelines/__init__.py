"""What runs: plan, engine, ledger, pack, inspection and the command line."""
