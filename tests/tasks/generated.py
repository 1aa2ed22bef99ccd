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

BOUNDS: dict[str, dict[str, float]] = {  # what each shortcut may score on test/id; of pcfg: how few bits it may pay
    "babi_like": {"majority": 0.15, "position": 0.15, "last_place": 0.46, "random_place": 0.27, "bag": 0.28},
    "chain": {
        "majority": 0.09,
        "position": 0.09,
        "random_value": 0.29,
        "common_value": 0.32,
        "last_value": 0.31,
        "value_of_start": 0.67,
        "first_hop": 0.8,
        "start_again": 0.9,
        "exclusion": 0.9,
        "bag": 0.15,
    },
    "cogs_like": {"majority": 0.02, "position": 0.02, "bag": 0.17},
    "dyck": {
        "majority": 0.36,
        "position": 0.36,
        "last_opened": 0.34,
        "first_opened": 0.49,
        "random_opened": 0.47,
        "bag": 0.46,
    },
    "induction": {"majority": 0.04, "position": 0.04, "random_token": 0.16, "bag": 0.17},
    "kinship": {"majority": 0.15, "position": 0.13, "last_step": 0.7, "bag": 0.28},
    "listops": {
        "majority": 0.13,
        "position": 0.1,
        "first_digit": 0.36,
        "last_digit": 0.36,
        "common_digit": 0.41,
        "root_over_all_digits": 0.56,
        "root_over_own_digits": 0.66,
        "bag": 0.29,
    },
    "mqar": {"majority": 0.06, "position": 0.06, "random_value": 0.29, "last_value": 0.29, "bag": 0.29},
    "pcfg": {"unigram": 1.36, "bigram": 0.66},
    "reachability": {
        "majority": 0.52,
        "position": 0.52,
        "edge": 0.79,
        "two_edges": 0.92,
        "undirected": 0.52,
        "edges_at_target": 0.52,
        "bag": 0.53,
    },
    "scan_like": {"majority": 0.02, "position": 0.02, "bag": 0.02},
    "selective_copy": {"majority": 0.09, "position": 0.09, "random_symbol": 0.4, "last_symbol": 0.4, "bag": 0.39},
    "shortest_path": {
        "majority": 0.37,
        "position": 0.37,
        "edge_or_2": 0.68,
        "edge_or_3": 0.58,
        "edge_or_4": 0.5,
        "bag": 0.37,
    },
    "state_tracking": {
        "majority": 0.03,
        "position": 0.03,
        "last_element": 0.03,
        "last_two_elements": 0.22,
        "bag": 0.04,
    },
    "table_lookup": {
        "majority": 0.14,
        "position": 0.14,
        "symbol": 0.15,
        "first_function": 0.17,
        "last_function": 0.17,
        "bag": 0.15,
    },
    "table_qa": {
        "majority": 0.14,
        "position": 0.12,
        "row_value": 0.29,
        "column_value": 0.36,
        "one_row": 0.14,
        "bag": 0.32,
    },
    "variable_tracking": {
        "majority": 0.07,
        "position": 0.09,
        "random_value": 0.34,
        "last_value": 0.38,
        "own_value": 0.59,
        "bag": 0.32,
    },
}


def within_bounds(name: str, levels: dict[str, float], slack: float) -> bool:
    """Whether every measured shortcut has a bound and keeps it, and every bound is measured."""
    bounds = BOUNDS[name]
    if name == "pcfg":
        return levels.keys() == bounds.keys() and all(levels[rule] >= bounds[rule] - slack for rule in bounds)
    return levels.keys() == bounds.keys() and all(levels[rule] <= bounds[rule] + slack for rule in bounds)
