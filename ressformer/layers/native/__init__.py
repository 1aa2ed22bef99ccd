"""C kernels for CPU, all optional: each Python file here calls the C file of its name; `loader` builds them."""
