"""Tables, figures, pages and CSV files."""
