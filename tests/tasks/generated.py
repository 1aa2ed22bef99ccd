"""The generated tasks, for the properties that each of them must have."""

GENERATED = (
    "chain",
    "dyck",
    "listops",
    "mqar",
    "reachability",
    "shortest_path",
    "state_tracking",
    "table_qa",
)
