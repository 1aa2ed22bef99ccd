"""The mixture of experts: routing, dispatch of tokens, and the grouped products that it runs on."""
