"""The generated tasks, for the properties that each of them must have."""

GENERATED = (
    "babi_like",
    "chain",
    "cogs_like",
    "dyck",
    "induction",
    "kinship",
    "listops",
    "mqar",
    "pcfg",
    "reachability",
    "scan_like",
    "selective_copy",
    "shortest_path",
    "state_tracking",
    "table_lookup",
    "table_qa",
    "variable_tracking",
)
