"""What the models are compared on. Knows no model: tasks and models meet in a batch of tensors only."""
