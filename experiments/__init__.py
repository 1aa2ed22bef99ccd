"""How the comparison is run: plan, run, record, table."""
