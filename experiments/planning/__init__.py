"""From a table and a budget to frozen runs: settings, sizes, costs, plans."""
