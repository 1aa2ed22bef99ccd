"""What plans, launches, judges and reports; for commands and for Python alike."""
