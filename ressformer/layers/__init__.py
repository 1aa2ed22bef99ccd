"""The parts that cores are made of; each module carries its closed-form cost.

What any model may use stands here: dense attention, feed-forward network, rotary positions, short convolution.
`sparse` is ReSSFormer's attention with its memory and its graph, `experts` its mixture of experts, `baselines` the
attention of Longformer, BigBird and Reformer, and `native` the C kernels under the first two.
"""
