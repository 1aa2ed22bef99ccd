"""ReSSFormer and its rivals: the models, their parts, and what they cost.

A re-implementation from the public description of You & Liu, "ReSSFormer: A Recursive Sparse Structured
Transformer for Scalable and Long-Context Reasoning" (arXiv 2510.01585), beside the baselines that it is
compared with. This package knows neither tasks nor experiments.
"""

__version__ = "0.1.0"
